package deploy_test

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestUnits has systemd read the units.
func TestUnits(t *testing.T) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	for _, name := range []string{"pairterm-signal.service", "pairterm-signal.socket", "pairterm-signal-http.socket"} {
		b, err := os.ReadFile("systemd/" + name)
		if err != nil {
			t.Fatal(err)
		}
		// The program is not installed here.
		b = []byte(strings.Replace(string(b), "/usr/local/bin/pairterm", "/bin/true", 1))
		if err := os.WriteFile(dir+"/"+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
		dir+"/pairterm-signal.service", dir+"/pairterm-signal.socket", dir+"/pairterm-signal-http.socket")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "pairterm-signal") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestUnitSecurity holds systemd's verdict on the service against the one that
// the documentation tells.
func TestUnitSecurity(t *testing.T) {
	need(t, "systemd-analyze")
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile("`systemd-analyze security` gives the service ([0-9.]+) ").FindSubmatch(page)
	if told == nil {
		t.Fatal("README.md does not tell the verdict")
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", "systemd/pairterm-signal.service").CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	verdict := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if verdict == nil {
		t.Fatalf("systemd says\n%s", out)
	}
	if tenths(t, verdict[1]) > tenths(t, told[1])+releases {
		t.Errorf("README.md tells %s, systemd\n%s", told[1], out)
	}
}

// releases is by how many tenths the verdicts of systemd's releases differ.
const releases = 3

func tenths(t *testing.T, text []byte) int {
	t.Helper()
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(math.Round(10 * v))
}

// TestUser makes the service's user as an installation does, but below a
// directory of its own.
func TestUser(t *testing.T) {
	need(t, "systemd-sysusers")
	if os.Getuid() != 0 {
		t.Skip("making a user takes root")
	}
	root := t.TempDir()
	// Where README.md has it put.
	dir := filepath.Join(root, "usr/local/lib/sysusers.d")
	for _, d := range []string{filepath.Join(root, "etc"), dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	conf, err := os.ReadFile("systemd/sysusers.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pairterm-signal.conf"), conf, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-sysusers", "--root="+root).CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	users, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !regexp.MustCompile(`(?m)^pairterm-signal:x:\d+:\d+:pairterm signaling server:/:.*/nologin$`).Match(users) {
		t.Errorf("the users are, %v,\n%s", err, users)
	}
}
