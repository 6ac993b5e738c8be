// Package dynamic would ask a cluster for its objects.
package dynamic

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// Interface has resources.
type Interface interface {
	Resource(schema.GroupVersionResource) NamespaceableResourceInterface
}

// NamespaceableResourceInterface is a resource, of a namespace or of none.
type NamespaceableResourceInterface interface {
	Namespace(string) ResourceInterface
	ResourceInterface
}

// ResourceInterface reads objects.
type ResourceInterface interface {
	Get(ctx context.Context, name string, options metav1.GetOptions, subresources ...string) (*unstructured.Unstructured, error)
	List(ctx context.Context, opts metav1.ListOptions) (*unstructured.UnstructuredList, error)
}

// NewForConfig always fails.
func NewForConfig(*rest.Config) (Interface, error) { return nil, errors.New("there is no cluster") }
