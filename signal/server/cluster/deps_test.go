package cluster_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies guards that who is alone links nothing of a cluster.
func TestDependencies(t *testing.T) {
	const (
		module = "github.com/pairterm/pairterm/"
		client = "github.com/nats-io/nats.go"
		nats   = "github.com/nats-io/nats-server/v2/server"
	)
	for _, tt := range []struct {
		packages  []string
		forbidden string
		why       string
	}{
		{[]string{"signal/server", "signal/server/metrics", "signal/server/certs", "peer/..."}, client, "a server that is alone, as in every host, has nothing to do with NATS"},
		{[]string{"signal/server/cluster", "cmd/..."}, nats, "the NATS server is for tests"},
	} {
		args := []string{"list", "-deps"}
		for _, p := range tt.packages {
			args = append(args, module+p)
		}
		out, err := exec.Command("go", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, out)
		}
		seen := false
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			seen = seen || dep == module+"signal/server"
			if dep == tt.forbidden || strings.HasPrefix(dep, tt.forbidden+"/") {
				t.Errorf("%v link %s: %s", tt.packages, dep, tt.why)
			}
		}
		if !seen {
			t.Error("the list does not contain the server; the test looks at the wrong thing")
		}
	}
}
