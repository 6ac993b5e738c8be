package deploy

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

const chartDir = root + "/deploy/chart"

// render is what Helm makes of the chart with these values: the objects, each by its kind and name.
func render(t *testing.T, values string) (map[string]object, error) {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return renderChart(t, c, values)
}

func renderChart(t *testing.T, c *chart.Chart, values string) (map[string]object, error) {
	t.Helper()
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	version, err := chartutil.ParseKubeVersion("1.34.0")
	if err != nil {
		t.Fatal(err)
	}
	if !chartutil.IsCompatibleRange(c.Metadata.KubeVersion, version.String()) {
		t.Errorf("the chart is not for Kubernetes %v", version)
	}
	all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "foyer", Namespace: "hall", IsInstall: true}, &chartutil.Capabilities{KubeVersion: *version})
	if err != nil {
		return nil, err // of the schema
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	objects := map[string]object{}
	for name, text := range files {
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		for dec := yaml.NewDecoder(strings.NewReader(text)); ; {
			var o object
			if err := dec.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			if o == nil { // a document with nothing in it
				continue
			}
			key := o.text("kind") + "/" + o.text("metadata", "name")
			if _, twice := objects[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			objects[key] = o
		}
	}
	return objects, nil
}

// object is one of Kubernetes, or a part of one.
type object map[string]any

// at goes down by names of fields; nil: one is not there.
func (o object) at(path ...string) any {
	var v any = o
	for _, name := range path {
		switch m := v.(type) {
		case object:
			v = m[name]
		default:
			return nil
		}
	}
	return v
}

func (o object) text(path ...string) string { s, _ := o.at(path...).(string); return s }
func (o object) number(path ...string) int  { n, _ := o.at(path...).(int); return n }
func (o object) of(path ...string) object   { m, _ := o.at(path...).(object); return m }
func (o object) list(path ...string) (objects []object) {
	all, _ := o.at(path...).([]any)
	for _, one := range all {
		m, _ := one.(object)
		objects = append(objects, m)
	}
	return objects
}

func (o object) strings(path ...string) (texts []string) {
	all, _ := o.at(path...).([]any)
	for _, one := range all {
		s, _ := one.(string)
		texts = append(texts, s)
	}
	return texts
}

// scenes are values that people set, each with the objects that come of it beside those that always do.
var scenes = []struct {
	name, values string
	more         []string
	less         []string
}{
	{name: "as it is"},
	{name: "TLS everywhere", values: "{edge: {tlsSecret: edge-tls}, api: {tlsSecret: api-tls}, cluster: {tlsSecret: nodes}}"},
	{name: "one node", values: "{replicas: 1, cluster: {mode: \"off\"}}"},
	{name: "NATS of one's own", values: "{cluster: {mode: nats, urlSecret: {name: nats}, tlsSecret: nodes}, nodeNames: fy-}"},
	{name: "Redis, beside Node", values: "{cluster: {mode: redis, urlSecret: {name: redis}}, settings: {cluster-prefix: socket.io}}"},
	{
		name: "watched and scaled", values: "{autoscaling: {enabled: true}, serviceMonitor: {enabled: true, labels: {release: kps}}, prometheusRule: {enabled: true, labels: {release: kps}}}",
		more: []string{"HorizontalPodAutoscaler/foyer", "PrometheusRule/foyer", "ServiceMonitor/foyer"},
	},
	{
		name: "other ports and settings, and closed",
		values: `{edge: {port: 8080, service: {type: LoadBalancer, annotations: {a: b}}}, api: {port: 9000}, admin: {port: 9001}, cluster: {port: 9002, peerPort: 9003},
drain: {preStopSeconds: 0, noticeSeconds: 10, windowSeconds: 120}, networkPolicy: {api: [], admin: []}, disruptionBudget: {enabled: false}, pullSecrets: [regcred], podLabels: {team: chat},
settings: {cors-origin: "https://a.example,https://*.example", max-payload: 2000000, compression: true, namespaces: chat, connect: handler, trusted-proxy: 10.0.0.0/8, handshake-rate: -1}}`,
		less: []string{"PodDisruptionBudget/foyer"},
	},
}

// TestChart renders the chart for each scene, and holds its parts against each other and against the binary.
func TestChart(t *testing.T) {
	for _, scene := range scenes {
		t.Run(scene.name, func(t *testing.T) {
			objects, err := render(t, scene.values)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Concat([]string{
				"NetworkPolicy/foyer", "PodDisruptionBudget/foyer", "Service/foyer", "Service/foyer-api", "Service/foyer-nodes", "StatefulSet/foyer",
			}, scene.more)
			want = slices.DeleteFunc(want, func(key string) bool { return slices.Contains(scene.less, key) })
			slices.Sort(want)
			if got := slices.Sorted(maps.Keys(objects)); !slices.Equal(got, want) {
				t.Errorf("objects %q, want %q", got, want)
			}
			known := map[string][]string{
				"apps/v1": {"StatefulSet"}, "v1": {"Service"}, "policy/v1": {"PodDisruptionBudget"}, "networking.k8s.io/v1": {"NetworkPolicy"},
				"autoscaling/v2": {"HorizontalPodAutoscaler"}, "monitoring.coreos.com/v1": {"ServiceMonitor", "PrometheusRule"},
			}
			for key, o := range objects {
				if !slices.Contains(known[o.text("apiVersion")], o.text("kind")) {
					t.Errorf("%s is of %s", key, o.text("apiVersion"))
				}
			}
			set := objects["StatefulSet/foyer"]
			wantPod(t, set)
			wantReached(t, objects, set)
			wantCommand(t, set)
		})
	}
}

// TestChartRefuses: values that would make no cluster are refused with a line that says which.
func TestChartRefuses(t *testing.T) {
	for values, want := range map[string]string{
		"{replicas: 2, cluster: {mode: \"off\"}}":        "cluster.mode is off: then each node is alone",
		"{cluster: {mode: nats}}":                        "cluster.urlSecret.name",
		"{replicas: 11, nodeNames: fy-}":                 "there are names for ten nodes only",
		"{autoscaling: {enabled: true, maxReplicas: 1}}": "autoscaling.maxReplicas is below autoscaling.minReplicas",
		"{replicas: three}":                              "replicas",
		"{replica: 3}":                                   "replica",
		"{nodeNames: toolong}":                           "nodeNames",
		"{cluster: {mode: gossip}}":                      "mode",
		"{edge: {port: 0}}":                              "port",
		"{secret: \"\"}":                                 "secret",
		"{settings: {FOYER_EDGE: x}}":                    "FOYER_EDGE",
		"{goMemLimit: 2Gi}":                              "goMemLimit",
		"{networkPolicy: {api: [{}]}}":                   "api",
		"{serviceMonitor: {enabled: \"yes\"}, prometheusRule: {enabled: no}}": "enabled",
	} {
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", values, err, want)
		}
	}
}

// TestChartLint: Helm's own lint has nothing to say but that there is no icon.
func TestChartLint(t *testing.T) {
	for _, scene := range scenes {
		values, err := chartutil.ReadValues([]byte(scene.values))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.AllWithKubeVersion(chartDir, values, "hall", &chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"}).Messages {
			if m.Severity > support.InfoSev || !strings.Contains(m.Err.Error(), "icon is recommended") {
				t.Errorf("%s: %v", scene.name, m)
			}
		}
	}
}

// TestChartRules: the chart has the alerts of the examples, and hands them on as they are.
func TestChartRules(t *testing.T) {
	rules := read(t, "examples/monitoring/alerts.yaml")
	if copied := read(t, "deploy/chart/files/alerts.yaml"); copied != rules {
		t.Error("deploy/chart/files/alerts.yaml is not what examples/monitoring/alerts.yaml is: copy it")
	}
	objects, err := render(t, "{prometheusRule: {enabled: true}}")
	if err != nil {
		t.Fatal(err)
	}
	var want object
	if err := yaml.Unmarshal([]byte(rules), &want); err != nil {
		t.Fatal(err)
	}
	if got := objects["PrometheusRule/foyer"].of("spec"); fmt.Sprint(got) != fmt.Sprint(want) || len(want.list("groups")) == 0 {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestChartFiles: the values are those of the schema, so that no setting is without its check.
func TestChartFiles(t *testing.T) {
	var values, schema object
	for name, into := range map[string]*object{"values.yaml": &values, "values.schema.json": &schema} {
		text, err := os.ReadFile(filepath.Join(chartDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	got, want := slices.Sorted(maps.Keys(schema.of("properties"))), slices.Sorted(maps.Keys(values))
	got = slices.DeleteFunc(got, func(name string) bool { return name == "global" }) // Helm's own
	if !slices.Equal(got, want) {
		t.Errorf("the schema has %q, the values %q", got, want)
	}
}

// seconds is a number of seconds.
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
