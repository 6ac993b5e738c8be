package deploy

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

// project is the compose file as Docker reads it: its schema is held, variables are filled in, parts are merged.
func project(t *testing.T, env types.Mapping) *types.Project {
	t.Helper()
	file, err := filepath.Abs(root + "/deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: filepath.Dir(file), ConfigFiles: []types.ConfigFile{{Filename: file}}, Environment: env,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCompose: the file is one, its nodes are a cluster whose settings the binary knows, and each file that it mounts
// is there.
func TestCompose(t *testing.T) {
	p := project(t, types.Mapping{"VERSION": "v1", "ORIGINS": "https://a.example"})
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, []string{"balancer", "foyer-1", "foyer-2", "foyer-3", "grafana", "prometheus"}) {
		t.Errorf("services %q", got)
	}
	ids := map[string]bool{}
	for _, name := range []string{"foyer-1", "foyer-2", "foyer-3"} {
		s, env := p.Services[name], map[string]string{}
		for variable, value := range s.Environment {
			if value == nil {
				t.Fatalf("%s: %s has no value", name, variable)
			}
			env[variable] = *value
		}
		wantStart(t, []string{"serve"}, env)
		ids[env["FOYER_NODE_ID"]] = true
		if !strings.Contains(env["FOYER_CLUSTER_ROUTES"], name+env["FOYER_CLUSTER_LISTEN"]) {
			t.Errorf("no node looks for %s at %s: %s", name, env["FOYER_CLUSTER_LISTEN"], env["FOYER_CLUSTER_ROUTES"])
		}
		if s.StopGracePeriod == nil {
			t.Fatalf("%s has no time to stop", name)
		}
		seconds, _ := strings.CutSuffix(s.StopGracePeriod.String(), "")
		wantTimeToStop(t, duration(t, seconds), env)
		if test := s.HealthCheck.Test; !slices.Equal(test, []string{"CMD", "/foyer", "healthcheck", "--ready"}) {
			t.Errorf("%s: health %q", name, test)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.User != "" || s.Privileged {
			t.Errorf("%s may do more than it has to", name)
		}
		if s.Image != "foyer:v1" || s.Build.Dockerfile != "deploy/Dockerfile" || *s.Build.Args["VERSION"] != "v1" {
			t.Errorf("%s: image %s, built by %+v", name, s.Image, s.Build)
		}
		for _, secret := range s.Secrets {
			if !slices.Contains(slices.Collect(maps.Values(env)), "/run/secrets/"+secret.Source) {
				t.Errorf("%s: no setting wants the secret %s", name, secret.Source)
			}
		}
		if len(s.Secrets) != 2 || int64(s.MemLimit) != 1<<30 || env["GOMEMLIMIT"] != "768MiB" || s.Ulimits["nofile"].Single < 100_000 {
			t.Errorf("%s: secrets %v, memory %d and GOMEMLIMIT %s, files %+v", name, s.Secrets, s.MemLimit, env["GOMEMLIMIT"], s.Ulimits["nofile"])
		}
	}
	if len(ids) != 3 {
		t.Errorf("the nodes' names are %v", ids)
	}
	for name, s := range p.Services {
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && (err != nil || !v.ReadOnly) {
				t.Errorf("%s: %s at %s, read only %t: %v", name, v.Source, v.Target, v.ReadOnly, err)
			}
		}
		if s.Build == nil && !regexp.MustCompile(`^[a-z/]+:v?\d+\.\d+[.\d]*(-alpine)?$`).MatchString(s.Image) {
			t.Errorf("%s: image %s names no version", name, s.Image)
		}
		for _, port := range s.Ports {
			if name != "balancer" && port.HostIP != "127.0.0.1" {
				t.Errorf("%s: %+v can be reached from elsewhere", name, port)
			}
		}
	}
}

// TestComposeDefaults: nothing has to be set, so that the commands of the documents do.
func TestComposeDefaults(t *testing.T) {
	p := project(t, types.Mapping{})
	for _, port := range p.Services["balancer"].Ports {
		if port.Published != fmt.Sprint(port.Target) {
			t.Errorf("port %d is %s outside", port.Target, port.Published)
		}
	}
}

// TestComposeBalancer: HAProxy understands its file, and knows the nodes by their names and ports.
func TestComposeBalancer(t *testing.T) {
	file := root + "/deploy/compose/haproxy.cfg"
	if said := output(t, "haproxy", "-c", "-f", file); !strings.Contains(said, "Configuration file is valid") {
		t.Error(said)
	}
	p, text := project(t, types.Mapping{}), read(t, "deploy/compose/haproxy.cfg")
	for i := 1; i <= 3; i++ {
		env := p.Services[fmt.Sprintf("foyer-%d", i)].Environment
		for _, line := range []string{
			fmt.Sprintf("    use-server node%d if { url_param(sid) -m beg %s }\n", i, *env["FOYER_NODE_ID"]),
			fmt.Sprintf("    server node%d foyer-%d%s\n", i, i, *env["FOYER_EDGE"]),
			fmt.Sprintf("    server node%d foyer-%d%s\n", i, i, *env["FOYER_API"]),
		} {
			if !strings.Contains(text, line) {
				t.Errorf("the balancer has no line %q", line)
			}
		}
	}
}

// TestComposeMonitoring: what Prometheus and Grafana are told is where the compose file says that it is.
func TestComposeMonitoring(t *testing.T) {
	p := project(t, types.Mapping{})
	mounted := map[string]string{}
	for _, v := range slices.Concat(p.Services["prometheus"].Volumes, p.Services["grafana"].Volumes) {
		mounted[v.Target] = v.Source
	}
	var scrapes, source, boards map[string]any
	for file, into := range map[string]*map[string]any{"prometheus.yaml": &scrapes, "grafana/datasource.yaml": &source, "grafana/dashboards.yaml": &boards} {
		if err := yaml.Unmarshal([]byte(read(t, "deploy/compose/"+file)), into); err != nil {
			t.Fatal(err)
		}
	}
	job := scrapes["scrape_configs"].([]any)[0].(map[string]any)
	targets := job["static_configs"].([]any)[0].(map[string]any)["targets"].([]any)
	for _, target := range targets {
		name, port, _ := strings.Cut(target.(string), ":")
		if env := p.Services[name].Environment; env == nil || *env["FOYER_ADMIN"] != ":"+port {
			t.Errorf("nobody answers at %s", target)
		}
	}
	if len(targets) != 3 || !strings.Contains(read(t, "examples/monitoring/alerts.yaml"), fmt.Sprintf(`up{job="%s"}`, job["job_name"])) {
		t.Errorf("it scrapes %v", job)
	}
	if file := job["authorization"].(map[string]any)["credentials_file"]; file != "/run/secrets/"+p.Services["prometheus"].Secrets[0].Source {
		t.Errorf("its token is %s", file)
	}
	if rules := scrapes["rule_files"].([]any)[0].(string); filepath.Base(mounted[rules]) != "alerts.yaml" {
		t.Errorf("its rules are %s of %v", rules, mounted)
	}
	folder := boards["providers"].([]any)[0].(map[string]any)["options"].(map[string]any)["path"].(string)
	if board := mounted[folder+"/foyer.json"]; filepath.Base(board) != "dashboard.json" {
		t.Errorf("the dashboard is not in %s: %v", folder, mounted)
	}
	if url := source["datasources"].([]any)[0].(map[string]any)["url"]; url != "http://prometheus:9090" {
		t.Errorf("Grafana asks %s", url)
	}
}

// TestComposeSecrets: the script makes secrets that the binary takes, once.
func TestComposeSecrets(t *testing.T) {
	dir := t.TempDir()
	script := read(t, "deploy/compose/secrets.sh")
	if err := os.WriteFile(dir+"/secrets.sh", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	contents := map[string]string{}
	for range 2 {
		if said, err := exec.CommandContext(t.Context(), "sh", dir+"/secrets.sh").CombinedOutput(); err != nil || len(said) > 0 {
			t.Fatalf("%v %s", err, said)
		}
		for _, name := range []string{"api.tokens", "cluster.key"} {
			text, err := os.ReadFile(filepath.Join(dir, "secrets", name))
			if err != nil || !regexp.MustCompile(`^[0-9a-f]{64}$`).Match(text) || contents[name] != "" && contents[name] != string(text) {
				t.Errorf("%s is %q, and was %q: %v", name, text, contents[name], err)
			}
			contents[name] = string(text)
		}
	}
	if info, err := os.Stat(dir + "/secrets"); err != nil || info.Mode().Perm() != 0o700 || contents["api.tokens"] == contents["cluster.key"] {
		t.Errorf("%v, %v, %v", info, err, contents)
	}
}
