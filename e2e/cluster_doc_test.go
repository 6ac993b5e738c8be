//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"foyer/service/adapter/freeport"
)

// TestClusterPage does what docs/cluster.md says, in its order.
func TestClusterPage(t *testing.T) {
	d := openDocument(t, "docs/cluster.md")
	dir := t.TempDir()
	term := openTerminal(t, dir)
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	first := term.serve(d.next("sh", "--cluster-listen"))
	second := term.serve(d.next("sh", "--cluster-routes"))
	wantUp(t, term, 2)
	first.stop()
	second.stop()
	natsServer(t, term.ports["4222"], "")
	one := term.serve(d.next("sh", "--cluster nats"))
	one.stop()
	redisServer(t, term.ports["6379"])
	one = term.serve(d.next("sh", "--cluster redis"))
	one.stop()
	mongoServer(t, term.ports["27017"])
	one = term.serve(d.next("sh", "--cluster mongo"))
	term.run(d.next("sh", "cluster.key"))
	list := d.next("sh", "foyer nodes")
	if out := term.run(list); !strings.HasPrefix(out, "NODE   STATE ") || !strings.Contains(out, " up ") {
		t.Errorf("%s prints %s", list, out)
	}
	one.stop()
	if config := d.next("json", "round_robin"); config != serviceConfig(t) {
		t.Errorf("TestRollingRestart makes its calls by another service config than\n%s", config)
	}
	testKubernetes(t, d.next("yaml", "kind: Deployment"))
}

func wantUp(t *testing.T, term *terminal, nodes int) {
	t.Helper()
	eventually(t, func() error {
		if out := term.run("bin/foyer nodes"); strings.Count(out, " up ") != nodes {
			return fmt.Errorf("%d nodes are wanted:\n%s", nodes, out)
		}
		return nil
	})
}

// manifest is what an object of Kubernetes has of that which the example uses.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		ClusterIP                string `yaml:"clusterIP"`
		PublishNotReadyAddresses bool   `yaml:"publishNotReadyAddresses"`
		Selector                 map[string]any
		Ports                    []struct {
			Name string
			Port int
		}
		Replicas int
		Strategy struct {
			RollingUpdate struct {
				MaxUnavailable int `yaml:"maxUnavailable"`
				MaxSurge       int `yaml:"maxSurge"`
			} `yaml:"rollingUpdate"`
		}
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
	}
}

type pod struct {
	TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
	Containers                    []struct {
		Name, Image string
		Args        []string
		Ports       []struct {
			ContainerPort int `yaml:"containerPort"`
		}
		ReadinessProbe probe `yaml:"readinessProbe"`
		LivenessProbe  probe `yaml:"livenessProbe"`
		VolumeMounts   []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	Volumes []struct {
		Name   string
		Secret struct {
			SecretName string `yaml:"secretName"`
		}
	}
}

type probe struct {
	PeriodSeconds int `yaml:"periodSeconds"`
	HTTPGet       struct {
		Path string
		Port int
	} `yaml:"httpGet"`
}

// testKubernetes reads the manifests as Kubernetes would, looks whether they fit together, and runs the pods as they
// say: each at an address of its own, on which the ports are exchanged for free ones.
func testKubernetes(t *testing.T, text string) {
	objects := map[string]manifest{}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	for {
		var m manifest
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		objects[m.Kind+" "+m.Metadata.Name] = m
	}
	deployment, nodes, service := objects["Deployment foyer"].Spec, objects["Service foyer-nodes"].Spec, objects["Service foyer"].Spec
	if len(objects) != 4 || len(deployment.Template.Spec.Containers) != 1 {
		t.Fatalf("the objects are %v", objects)
	}
	spec := deployment.Template.Spec
	c := spec.Containers[0]
	flags := map[string]string{}
	for _, arg := range c.Args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		flags[name] = value
	}
	// A port or name that stands in two objects is the same one in both.
	open := map[string]bool{}
	for _, p := range c.Ports {
		open[":"+strconv.Itoa(p.ContainerPort)] = true
	}
	listens := []string{"--edge", "--api", "--admin", "--cluster-listen", "--peer"}
	for _, flag := range listens {
		if !open[flags[flag]] {
			t.Errorf("%s=%s is no port of the container", flag, flags[flag])
		}
	}
	labels := deployment.Template.Metadata.Labels
	for name, selector := range map[string]map[string]any{"Service foyer": service.Selector, "Service foyer-nodes": nodes.Selector} {
		if len(selector) != 1 || selector["app"] != labels["app"] {
			t.Errorf("%s selects %v, and the pods are %v", name, selector, labels)
		}
	}
	if fmt.Sprint(deployment.Selector["matchLabels"]) != fmt.Sprint(labels) {
		t.Errorf("the Deployment selects %v, and its pods are %v", deployment.Selector, labels)
	}
	if flags["--cluster-routes"] != "foyer-nodes:"+strconv.Itoa(nodes.Ports[0].Port) || ":"+strconv.Itoa(nodes.Ports[0].Port) != flags["--cluster-listen"] ||
		nodes.ClusterIP != "None" || !nodes.PublishNotReadyAddresses {
		t.Errorf("the nodes look for %s, listen at %s, and their Service is %v", flags["--cluster-routes"], flags["--cluster-listen"], nodes)
	}
	for i, flag := range []string{"--edge", "--api"} {
		if ":"+strconv.Itoa(service.Ports[i].Port) != flags[flag] {
			t.Errorf("the Service has port %v for %s=%s", service.Ports[i], flag, flags[flag])
		}
	}
	for _, p := range []probe{c.ReadinessProbe, c.LivenessProbe} {
		if ":"+strconv.Itoa(p.HTTPGet.Port) != flags["--admin"] {
			t.Errorf("a probe asks port %d, and --admin is %s", p.HTTPGet.Port, flags["--admin"])
		}
	}
	mount, secret := c.VolumeMounts[0], objects["Secret "+spec.Volumes[0].Secret.SecretName]
	for _, flag := range []string{"--cluster-key-file", "--api-token-file"} {
		if file := strings.TrimPrefix(flags[flag], mount.MountPath+"/"); mount.Name != spec.Volumes[0].Name || secret.StringData[file] == "" {
			t.Errorf("%s=%s is no key of the Secret at %s", flag, flags[flag], mount.MountPath)
		}
	}
	if spec.TerminationGracePeriodSeconds < 5+30+7+10 { // notice, window and what a drain waits for behind them
		t.Errorf("a pod has %d s to end", spec.TerminationGracePeriodSeconds)
	}

	// The pods.
	secrets := t.TempDir()
	for name, text := range secret.StringData {
		writeFile(t, filepath.Join(secrets, name), text+"\n")
	}
	ports, port := map[string]string{}, regexp.MustCompile(`:(\d+)$`)
	for name := range open {
		ports[name] = ":" + freeport.New(t)
	}
	var routes []string
	for i := range deployment.Replicas {
		routes = append(routes, address(i)+ports[flags["--cluster-listen"]])
	}
	var pods []*process
	for i := range deployment.Replicas {
		args := []string{c.Args[0]}
		for _, arg := range c.Args[1:] {
			name, value, _ := strings.Cut(arg, "=")
			switch {
			case name == "--cluster-routes":
				value = strings.Join(routes, ",")
			case port.MatchString(value):
				value = address(i) + ports[value]
			default:
				value = strings.ReplaceAll(value, mount.MountPath, secrets)
			}
			args = append(args, name+"="+value)
		}
		pods = append(pods, start(t, binary(t), []string{"FOYER_NODES_SERVICE_PORT=6222", "FOYER_SERVICE_HOST=10.0.0.1", "FOYER_PORT=tcp://10.0.0.1:3000"}, args...))
	}
	for i, p := range pods {
		t.Cleanup(p.kill)
		eventually(t, func() error {
			resp, err := http.Get("http://" + address(i) + ports[flags["--admin"]] + c.ReadinessProbe.HTTPGet.Path)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, p.tail(10))
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		})
	}
	for i := range pods {
		eventually(t, func() error {
			cmd := exec.CommandContext(t.Context(), binary(t), "nodes", "--api", net.JoinHostPort(address(i), ports[flags["--api"]][1:]),
				"--api-token-file", filepath.Join(secrets, "api.tokens"))
			out, err := cmd.CombinedOutput()
			if err != nil || bytes.Count(out, []byte(" up ")) != deployment.Replicas {
				return fmt.Errorf("%w: pod %d lists\n%s", err, i, out)
			}
			return nil
		})
	}
}

// address is that of a pod.
func address(i int) string { return "127.0.0." + strconv.Itoa(2+i) }
