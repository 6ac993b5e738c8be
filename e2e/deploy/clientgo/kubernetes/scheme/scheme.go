// Package scheme has the kinds of objects that are known: none.
package scheme

import "k8s.io/apimachinery/pkg/runtime"

// Scheme is empty.
var Scheme = runtime.NewScheme()

// AddToScheme adds nothing.
func AddToScheme(*runtime.Scheme) error { return nil }
