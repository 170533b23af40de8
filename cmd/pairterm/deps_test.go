package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies guards what the program must not ship.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/pairterm/pairterm/cmd/pairterm").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if slices.Contains(deps, "github.com/pairterm/pairterm/peer/natlab") {
		t.Error("pairterm links peer/natlab, which makes network namespaces for tests")
	}
	if slices.Contains(deps, "github.com/pairterm/pairterm/signal/acmetest") {
		t.Error("pairterm links signal/acmetest, a certificate authority for tests")
	}
	out, err = exec.Command("go", "list", "-deps", "github.com/pairterm/pairterm/peer").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	if slices.Contains(strings.Fields(string(out)), "github.com/pairterm/pairterm/peer/portmap") {
		t.Error("peer links peer/portmap, which speaks HTTP to routers: it is to know link.PortMapper only")
	}
	if deps[len(deps)-1] != "github.com/pairterm/pairterm/cmd/pairterm" {
		t.Error("the list does not end with the program; the test looks at the wrong thing")
	}
}
