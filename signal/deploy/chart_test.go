// Package deploy_test checks what there is to deploy the signaling server with,
// as far as the programs for it are installed.
package deploy_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
}

// render renders the chart and returns its objects by kind and name.
func render(t *testing.T, args ...string) (map[string]map[string]any, string, error) {
	t.Helper()
	out, err := exec.Command("helm", append([]string{"template", "r", "chart", "--kube-version", "1.31.0"}, args...)...).CombinedOutput()
	if err != nil {
		return nil, string(out), err
	}
	objects := map[string]map[string]any{}
	for d := yaml.NewDecoder(strings.NewReader(string(out))); ; {
		var o map[string]any
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return objects, string(out), nil
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if o == nil {
			continue
		}
		name := dig(o, "metadata", "name").(string)
		objects[o["kind"].(string)+"/"+name] = o
	}
}

// dig follows keys, and indices of lists.
func dig(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

const aliceKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtg1PzLYZRgMRyXVn9jeH3zf4kD3s5nk5fZ9hR2c0xa alice"

func TestChartLint(t *testing.T) {
	need(t, "helm")
	for _, set := range []string{"open=true", "authorizedKeys[0]=" + aliceKey} {
		if out, err := exec.Command("helm", "lint", "--strict", "chart", "--set", set).CombinedOutput(); err != nil {
			t.Errorf("helm lint: %v\n%s", err, out)
		}
	}
}

// The pod meets the restricted pod security standard, and the server is told
// what the values say.
func TestChart(t *testing.T) {
	need(t, "helm")
	objects, text, err := render(t, "--set", "authorizedKeys[0]="+aliceKey, "--set", "gate=all", "--set", "metrics.serviceMonitor=true",
		"--set", "stun.public=stun.example.org:3478\\,3479", "--set", "service.tlsSecret=tls")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		"Deployment/r-signal", "Service/r-signal", "Service/r-signal-stun", "Secret/r-signal", "Ingress/r-signal",
		"NetworkPolicy/r-signal", "PodDisruptionBudget/r-signal", "ServiceMonitor/r-signal",
	} {
		if objects[want] == nil {
			t.Errorf("there is no %s", want)
		}
	}
	pod := dig(objects["Deployment/r-signal"], "spec", "template", "spec")
	container := dig(pod, "containers", 0)
	for what, got := range map[string]bool{
		"runAsNonRoot":           dig(pod, "securityContext", "runAsNonRoot") == true,
		"seccomp":                dig(pod, "securityContext", "seccompProfile", "type") == "RuntimeDefault",
		"no escalation":          dig(container, "securityContext", "allowPrivilegeEscalation") == false,
		"no capabilities":        dig(container, "securityContext", "capabilities", "drop", 0) == "ALL",
		"read-only file system":  dig(container, "securityContext", "readOnlyRootFilesystem") == true,
		"no host network":        dig(pod, "hostNetwork") == nil && dig(pod, "hostPID") == nil && dig(pod, "hostIPC") == nil,
		"no service account":     dig(pod, "automountServiceAccountToken") == false,
		"probes over TLS":        dig(container, "readinessProbe", "httpGet", "scheme") == "HTTPS",
		"the key in its secret":  strings.Contains(dig(objects["Secret/r-signal"], "stringData", "authorized_keys").(string), aliceKey),
		"one replica":            dig(objects["Deployment/r-signal"], "spec", "replicas") == 1,
		"STUN keeps the address": dig(objects["Service/r-signal-stun"], "spec", "externalTrafficPolicy") == "Local",
	} {
		if !got {
			t.Errorf("not so: %s", what)
		}
	}
	args, _ := dig(container, "args").([]any)
	var line []string
	for _, a := range args {
		line = append(line, a.(string))
	}
	for _, want := range []string{
		"--authorized-keys=/etc/pairterm-keys/authorized_keys", "--gate=all", "--name=signal.example.org",
		"--stun-public=stun.example.org:3478,3479", "--trusted-proxy=10.0.0.0/8", "--tls-cert=/etc/pairterm-tls/tls.crt", "--metrics=:9090",
	} {
		if !strings.Contains(" "+strings.Join(line, " ")+" ", " "+want+" ") {
			t.Errorf("the server is not told %s but %q", want, line)
		}
	}
}

// Values that would open the door by accident, or mean nothing, are refused.
func TestChartRefuses(t *testing.T) {
	need(t, "helm")
	for name, tt := range map[string]struct {
		set  []string
		want string
	}{
		"nobody named":     {nil, "name who may host"},
		"open and gated":   {[]string{"--set", "open=true", "--set", "existingSecret=x"}, "leave out"},
		"two lists":        {[]string{"--set", "existingSecret=x", "--set", "authorizedKeys[0]=" + aliceKey}, "set one of"},
		"an unknown value": {[]string{"--set", "open=true", "--set", "replicas=3"}, "replicas"},
		"an unknown gate":  {[]string{"--set", "open=true", "--set", "gate=none"}, "gate"},
	} {
		if _, out, err := render(t, tt.set...); err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

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
