package deploy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// container is the one of the pods of a StatefulSet.
func container(t *testing.T, set object) object {
	t.Helper()
	all := set.list("spec", "template", "spec", "containers")
	if len(all) != 1 {
		t.Fatalf("%d containers", len(all))
	}
	return all[0]
}

// selects says whether labels are selected by a selector's.
func selects(selector, labels object) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return len(selector) > 0
}

// flags are those of a command line, without dashes, as NAME=VALUE.
func flags(t *testing.T, args []string) map[string]string {
	t.Helper()
	if len(args) < 2 || args[0] != "serve" {
		t.Fatalf("args %q", args)
	}
	values := map[string]string{}
	for _, a := range args[1:] {
		name, value, ok := strings.Cut(a, "=")
		if _, twice := values[name]; !ok || twice {
			t.Errorf("args %q: %s", args, a)
		}
		values[name] = value
	}
	return values
}

// wantPod wants pods that may do nothing but serve, that are asked how they are, and that have the time to end well.
func wantPod(t *testing.T, set object) {
	t.Helper()
	pod, c := set.of("spec", "template", "spec"), container(t, set)
	labels := set.of("spec", "template", "metadata", "labels")
	if !selects(set.of("spec", "selector", "matchLabels"), labels) {
		t.Errorf("the selector does not match %v", labels)
	}
	for what, ok := range map[string]bool{
		"no token of Kubernetes": pod.at("automountServiceAccountToken") == false,
		"no links to services":   pod.at("enableServiceLinks") == false,
		"not root":               pod.at("securityContext", "runAsNonRoot") == true && pod.number("securityContext", "runAsUser") == 65532,
		"files of its group":     pod.number("securityContext", "fsGroup") == 65532,
		"seccomp":                pod.text("securityContext", "seccompProfile", "type") == "RuntimeDefault",
		"read-only root":         c.at("securityContext", "readOnlyRootFilesystem") == true,
		"no escalation":          c.at("securityContext", "allowPrivilegeEscalation") == false,
		"no capabilities":        slices.Equal(c.strings("securityContext", "capabilities", "drop"), []string{"ALL"}),
		"a bound of memory":      c.text("resources", "limits", "memory") == "2Gi" && variable(c, "GOMEMLIMIT") == "1536MiB",
		"a request":              c.text("resources", "requests", "cpu") != "",
		"an image with a tag":    regexp.MustCompile(`^foyer:v\d+\.\d+\.\d+$`).MatchString(c.text("image")),
		"one after the other":    set.text("spec", "updateStrategy", "type") == "RollingUpdate" && set.number("spec", "minReadySeconds") > 0,
	} {
		if !ok {
			t.Errorf("the pod has not: %s", what)
		}
	}
	for probe, path := range map[string]string{"startupProbe": "/readyz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		if get := c.of(probe, "httpGet"); get.text("path") != path || get.text("port") != "admin" {
			t.Errorf("%s asks %v", probe, get)
		}
	}
	values := flags(t, c.strings("args"))
	slept := c.number("lifecycle", "preStop", "sleep", "seconds")
	wantTimeToStop(t, seconds(pod.number("terminationGracePeriodSeconds")-slept), map[string]string{
		"FOYER_DRAIN_NOTICE": values["--drain-notice"], "FOYER_DRAIN_WINDOW": values["--drain-window"],
	})
	spread := pod.list("topologySpreadConstraints")
	for _, s := range spread {
		if !selects(s.of("labelSelector", "matchLabels"), labels) {
			t.Errorf("%v spreads other pods", s)
		}
	}
	if len(spread) != 2 {
		t.Errorf("it spreads over %v", spread)
	}
	wantFiles(t, pod, c, values)
}

// wantFiles wants each file that a flag names to be of a Secret that is mounted, and each Secret to be for a flag.
func wantFiles(t *testing.T, pod, c object, values map[string]string) {
	t.Helper()
	volumes := map[string]object{}
	for _, v := range pod.list("volumes") {
		volumes[v.text("name")] = v
		if v.text("secret", "secretName") == "" || v.number("secret", "defaultMode") != 0o440 {
			t.Errorf("volume %v", v)
		}
	}
	mounted := map[string]bool{}
	for _, m := range c.list("volumeMounts") {
		if volumes[m.text("name")] == nil || m.at("readOnly") != true || m.at("subPath") != nil {
			t.Errorf("mount %v of %v", m, volumes)
		}
		mounted[m.text("mountPath")] = false
	}
	if len(mounted) != len(volumes) {
		t.Errorf("%d volumes are mounted of %d", len(mounted), len(volumes))
	}
	for name, value := range values {
		if !strings.HasPrefix(value, "/") {
			continue
		}
		if _, ok := mounted[path.Dir(value)]; !ok {
			t.Errorf("%s=%s is in no volume", name, value)
		}
		mounted[path.Dir(value)] = true
	}
	for dir, used := range mounted {
		if !used {
			t.Errorf("no flag wants a file of %s", dir)
		}
	}
}

func variable(c object, name string) string {
	for _, v := range c.list("env") {
		if v.text("name") == name {
			return v.text("value")
		}
	}
	return ""
}

// wantReached wants ports, probes, services, policies and flags to agree, and selectors to match the pods.
func wantReached(t *testing.T, objects map[string]object, set object) {
	t.Helper()
	c, labels := container(t, set), set.of("spec", "template", "metadata", "labels")
	values, ports := flags(t, c.strings("args")), map[string]int{}
	for _, p := range c.list("ports") {
		name, number := p.text("name"), p.number("containerPort")
		ports[name] = number
		flag := map[string]string{"edge": "--edge", "api": "--api", "admin": "--admin", "cluster": "--cluster-listen", "peer": "--peer"}[name]
		if values[flag] != fmt.Sprintf(":%d", number) {
			t.Errorf("port %s is %d, and %s is %q", name, number, flag, values[flag])
		}
	}
	open := map[string]bool{}
	for key, o := range objects {
		selector := o.of("spec", "selector")
		switch o.text("kind") {
		case "Service":
			for _, p := range o.list("spec", "ports") {
				if target := p.text("targetPort"); ports[target] == 0 || ports[target] != p.number("port") {
					t.Errorf("%s: port %v; the pod has %v", key, p, ports)
				}
			}
		case "NetworkPolicy":
			selector = o.of("spec", "podSelector", "matchLabels")
			for _, rule := range o.list("spec", "ingress") {
				for _, p := range rule.list("ports") {
					name, _ := p["port"].(string)
					if open[name] = true; ports[name] == 0 || (rule.list("from") == nil) != (name == "edge") {
						t.Errorf("%s: %v", key, rule)
					}
				}
			}
		case "PodDisruptionBudget":
			selector = o.of("spec", "selector", "matchLabels")
		default:
			continue
		}
		if !selects(selector, labels) {
			t.Errorf("%s selects %v; the pod is %v", key, selector, labels)
		}
	}
	for name := range ports {
		if closed := variableList(objects, name); !open[name] && !closed {
			t.Errorf("nobody may reach the port %s", name)
		}
	}
	nodes := objects["Service/"+set.text("spec", "serviceName")]
	if nodes.text("spec", "clusterIP") != "None" || nodes.at("spec", "publishNotReadyAddresses") != true {
		t.Errorf("the nodes do not find each other by %v", nodes)
	}
	if routes := values["--cluster-routes"]; routes != "" && routes != fmt.Sprintf("%s:%d", nodes.text("metadata", "name"), ports["cluster"]) {
		t.Errorf("routes %s", routes)
	}
	if api := objects["Service/foyer-api"]; api.text("spec", "clusterIP") != "None" {
		t.Errorf("clients of gRPC see one address of %v", api)
	}
	wantMonitored(t, objects, set)
}

// variableList says whether a port is closed on purpose: who may come in is an empty list.
func variableList(objects map[string]object, port string) bool {
	return (port == "api" || port == "admin") && len(objects["NetworkPolicy/foyer"].list("spec", "ingress")) < 4
}

// wantMonitored wants what scales and what scrapes to be about the pods.
func wantMonitored(t *testing.T, objects map[string]object, set object) {
	t.Helper()
	scaler, scaled := objects["HorizontalPodAutoscaler/foyer"]
	if _, fixed := set.of("spec")["replicas"]; fixed == scaled {
		t.Error("the number of pods is said by both or by none")
	}
	if scaled {
		metric := scaler.list("spec", "metrics")[0].text("pods", "metric", "name")
		if ref := scaler.of("spec", "scaleTargetRef"); ref.text("name") != "foyer" || ref.text("kind") != "StatefulSet" || ref.text("apiVersion") != "apps/v1" {
			t.Errorf("it scales %v", ref)
		}
		if !strings.Contains(read(t, "docs/metrics.md"), "| `"+metric+"` | gauge |") {
			t.Errorf("docs/metrics.md has no gauge %s", metric)
		}
	}
	monitor := objects["ServiceMonitor/foyer"]
	if monitor == nil {
		return
	}
	endpoint := monitor.list("spec", "endpoints")[0]
	var found []string
	for key, o := range objects {
		if o.text("kind") != "Service" || !selects(monitor.of("spec", "selector", "matchLabels"), o.of("metadata", "labels")) {
			continue
		}
		found = append(found, key)
		if job := o.text("metadata", "labels", monitor.text("spec", "jobLabel")); !strings.Contains(read(t, "examples/monitoring/alerts.yaml"), `up{job="`+job+`"}`) {
			t.Errorf("no alert asks for the job %s", job)
		}
		if !slices.ContainsFunc(o.list("spec", "ports"), func(p object) bool { return p.text("name") == endpoint.text("port") }) {
			t.Errorf("%s has no port %s", key, endpoint.text("port"))
		}
	}
	if !slices.Equal(found, []string{"Service/foyer-nodes"}) {
		t.Errorf("it scrapes %q", found)
	}
	if endpoint.text("path") != "/metrics" || endpoint.text("authorization", "credentials", "key") != "metrics.token" {
		t.Errorf("endpoint %v", endpoint)
	}
}

// wantCommand starts a node as the pod does.
func wantCommand(t *testing.T, set object) {
	t.Helper()
	c, env := container(t, set), map[string]string{}
	for _, v := range c.list("env") {
		name, value := v.text("name"), v.text("value")
		switch {
		case v.of("valueFrom", "secretKeyRef") != nil: // a URL by its mode
			value = map[string]string{"nats": "nats://somewhere:4222", "redis": "redis://somewhere:6379"}[flags(t, c.strings("args"))["--cluster"]]
		case v.of("valueFrom", "fieldRef") != nil:
			value = "7"
		}
		for known, is := range env { // as Kubernetes does it
			value = strings.ReplaceAll(value, "$("+known+")", is)
		}
		if value == "" {
			t.Errorf("variable %v", v)
		}
		env[name] = value
	}
	wantStart(t, c.strings("args"), env)
}
