package server_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies guards what a signaling server must not be able to do. It
// lists what the server links, not what its tests use.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/pairterm/pairterm/signal/server/...", "github.com/pairterm/pairterm/signal/stun").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	forbidden := map[string]string{
		"github.com/pion/":                  "the server introduces machines and never takes part in their connection; WebRTC's parsers have no business on a public box",
		"github.com/creack/pty":             "the server has no terminal; nothing on it can start a process",
		"os/exec":                           "likewise",
		"golang.org/x/term":                 "likewise",
		"github.com/pairterm/pairterm/peer": "arrows only go down: peer uses signal",
		"github.com/pairterm/pairterm/term": "arrows only go down: only cmd knows both",
		"github.com/pairterm/pairterm/cmd":  "arrows only go down",
		"testing":                           "test support does not ship",
	}
	seen := false
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		seen = seen || dep == "github.com/pairterm/pairterm/signal/server"
		for prefix, why := range forbidden {
			if dep == prefix || strings.HasPrefix(dep, strings.TrimSuffix(prefix, "/")+"/") {
				t.Errorf("signal links %s: %s", dep, why)
			}
		}
	}
	if !seen {
		t.Error("the list does not contain the server; the test looks at the wrong thing")
	}
}
