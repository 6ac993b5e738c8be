//go:build e2e

package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// apart are the tests that make e2e-cluster leaves out, as expressions, and why. All others run there, where what a
// test starts as one Foyer is three nodes: a new test does, unless it is named here.
var apart = []struct {
	why   string
	tests string
	slow  bool // it passes there, and runs with WHOLE=1
}{
	{
		why: "it starts the nodes that it needs, and would do the same again",
		tests: `Balancers Chaos\w* Cluster\w* ClientsOverNodes CostOfPassing FrozenPeerSlowsNobody NodeLost OwnerGone PageFindsItsNode PassingNodeLeaves ` +
			`Peers\w* Postgres\w* RollingRestart RollingUpgrade SessionsOnAnyNode VersionsApart`,
	},
	{
		why: "it starts a command as a page says it, which is one node",
		tests: "BackendsDoc CommentsInOtherLanguages EmitPage ExamplesDoc ExplainPage FromNodePage Greeting AdminUIPage HTTPPage NodePage NodesPage OperationPage Page PageAccess PageRooms PerformancePage Proxy " +
			"Readme SecurityPage Start StopAnytime Troubleshooting",
	},
	{
		why: "it starts no node of which clients or backends could come to another one",
		tests: "Apart Compare Environment ExamplesEndWhileTheyConnect Floors GroundPlan Links RefusesToStart VersionAndHelp " +
			`Official\w*`,
	},
	{
		why: "it is about the connections that come to a node, which end here at what stands before the nodes, and speaks no TLS",
		tests: "BodiesThatDoNotCome DrainWithSilentConnections FailedHandshakesAreTold ListeningSaysWhoMayComeIn LogIsNotFilled " +
			"FrozenReaders RefusalsAreTold Reload SlowReader TLS",
	},
	{
		why:   "a node drains alone, and its clients find the others (docs/cluster.md, \"How nodes are\"), as in RollingRestart",
		tests: "DrainByCall EIO3Restart Restart",
	},
	{
		why:   "without --cluster a node is alone (docs/nodes.md)",
		tests: "Today",
	},
	{
		why:   "there is no time for it where CI runs, and the others tell as much",
		tests: "ConnectFlood EIO3Heartbeat Examples ExamplesWithoutFoyer Heartbeat Origins ThousandBackendKilled",
		slow:  true,
	},
}

// skipTestsApart has the tests that are apart left out where FOYER_NODES is set, beside what -skip says.
func skipTestsApart() {
	if nodesOfOne() == 1 {
		return
	}
	flag.Parse()
	var all []string
	for _, a := range apart {
		if !a.slow || os.Getenv("WHOLE") == "" {
			all = append(all, strings.Fields(a.tests)...)
		}
	}
	skip := "^Test(" + strings.Join(all, "|") + ")$"
	if more := flag.Lookup("test.skip").Value.String(); more != "" {
		skip += "|" + more
	}
	if err := flag.Set("test.skip", skip); err != nil {
		panic(err)
	}
}

// TestApart: each expression names tests that are there, and none is named twice.
func TestApart(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^func Test(\w+)\(t \*testing\.T\)`)
	var tests []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			tests = append(tests, m[1])
		}
	}
	by := map[string]string{}
	for _, a := range apart {
		for expression := range strings.FieldsSeq(a.tests) {
			whole, found := regexp.MustCompile("^("+expression+")$"), false
			for _, name := range tests {
				if !whole.MatchString(name) {
					continue
				}
				if by[name] != "" {
					t.Errorf("%s is named by %s and by %s", name, by[name], expression)
				}
				by[name], found = expression, true
			}
			if !found {
				t.Errorf("%s names no test", expression)
			}
		}
	}
	t.Logf("%d of %d tests are left out on three nodes", len(by), len(tests))
}
