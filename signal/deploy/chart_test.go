// Package deploy_test checks what there is to deploy the signaling server with,
// as far as the programs for it are installed.
package deploy_test

import (
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
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

// kubeVersion is what the chart is rendered for: helm would take one of its own.
const kubeVersion = "1.34.0"

// render renders the chart and returns its objects by kind and name.
func render(t *testing.T, args ...string) (map[string]map[string]any, string, error) {
	t.Helper()
	out, err := exec.Command("helm", append([]string{"template", "r", "chart", "--kube-version", kubeVersion}, args...)...).CombinedOutput()
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

// variants are values that take every way through the templates, between them.
var variants = map[string][]string{
	"open":     {"--set", "open=true"},
	"gated":    {"--set", "authorizedKeys[0]=" + aliceKey, "--set", `authorizedKeys[1]=# two lines` + "\n" + aliceKey + "\n", "--set", "gate=all"},
	"own TLS":  {"--set", "existingSecret=keys,service.type=LoadBalancer,service.port=443,service.tlsSecret=tls,ingress.enabled=false,trustedProxies=null"},
	"metrics":  {"--set", "open=true,metrics.serviceMonitor=true,service.type=NodePort,stun.type=NodePort,stun.public=stun.example.org:3478"},
	"haproxy":  {"--set", "open=true,proxyProtocol=true,stun.enabled=false,metrics.enabled=false,image.tag=v1,image.pullSecrets[0].name=registry"},
	"ingress":  {"--set", "open=true,ingress.className=nginx,ingress.tlsSecret=tls,ingress.annotations.a/b=c,service.annotations.a/b=c,stun.annotations.a/b=c"},
	"replicas": {"--set", `existingSecret=keys,replicas=3,nats.url=tls://a.example.org:4443\,nats://b.example.org,nats.existingSecret=nats,nats.creds=user.creds,nats.ca=ca.crt,nats.cert=tls.crt,nats.key=tls.key,nats.secret=secret,nats.name=blue`},
	"policies": {"--set", "open=true,replicas=2,nats.url=nats://nats,nats.user=u,nats.password=p,nats.existingSecret=s,networkPolicy.natsTo[0].podSelector.matchLabels.app=nats,networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring"},
	"bare":     {"--set", "open=true,networkPolicy.enabled=false,podDisruptionBudget.enabled=false,ingress.enabled=false,extraArgs[0]=--verbose"},
	"placed":   {"--set", "open=true,nodeSelector.disk=ssd,tolerations[0].operator=Exists,affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key=metadata.name,affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].operator=In,affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values[0]=n1"},
}

func TestChartLint(t *testing.T) {
	need(t, "helm")
	for name, set := range variants {
		if out, err := exec.Command("helm", append([]string{"lint", "--strict", "--kube-version", kubeVersion, "chart"}, set...)...).CombinedOutput(); err != nil {
			t.Errorf("%s: helm lint: %v\n%s", name, err, out)
		}
	}
}

// An API server takes every object, every pod meets the restricted pod security
// standard, and what the objects say of each other is so.
func TestChartIsValid(t *testing.T) {
	need(t, "helm")
	need(t, "chartcheck")
	for name, set := range variants {
		t.Run(name, func(t *testing.T) {
			objects, text, err := render(t, set...)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			check := exec.Command("chartcheck")
			check.Stdin = strings.NewReader(text)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%v\n%sin\n%s", err, out, text)
			}
			refers(t, objects)
		})
	}
}

// chartcheck is not one that finds everything in order.
func TestChartCheckFinds(t *testing.T) {
	need(t, "helm")
	need(t, "chartcheck")
	_, text, err := render(t, "--set", "open=true")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, tt := range [][3]string{
		{"runAsNonRoot: true", "runAsNonRoot: false", "not restricted: runAsNonRoot != true"},
		{"drop: [ALL]", "drop: [NET_RAW]", "not restricted: unrestricted capabilities"},
		{"pathType: Prefix", "pathtype: Prefix", `unknown field "spec.rules[0].http.paths[0].pathtype"`},
		{"maxUnavailable: 1", "maxUnavailable: -1", "spec.maxUnavailable: Invalid value"},
		{"{name: state, mountPath", "{name: stat, mountPath", `volumeMounts[0].name: Not found: "stat"`},
		{"apiVersion: apps/v1", "apiVersion: apps/v1beta7", "no kind"},
	} {
		check := exec.Command("chartcheck")
		check.Stdin = strings.NewReader(strings.Replace(text, tt[0], tt[1], 1))
		if out, err := check.CombinedOutput(); err == nil || !strings.Contains(string(out), tt[2]) {
			t.Errorf("%s: %v\n%s", tt[1], err, out)
		}
	}
}

// refers checks what names one object mentions of another's.
func refers(t *testing.T, objects map[string]map[string]any) {
	t.Helper()
	pod := dig(objects["Deployment/r-signal"], "spec", "template")
	labels, _ := dig(pod, "metadata", "labels").(map[string]any)
	selects := func(what string, selector any) {
		m, _ := selector.(map[string]any)
		for k, v := range m {
			if labels[k] != v {
				t.Errorf("%s selects %s=%v, which the pod has not", what, k, v)
			}
		}
		if len(m) == 0 {
			t.Errorf("%s selects nothing in particular", what)
		}
	}
	named := func(ports any, name any) bool {
		l, _ := ports.([]any)
		return slices.ContainsFunc(l, func(p any) bool { return dig(p, "name") == name })
	}
	containerPorts := dig(pod, "spec", "containers", 0, "ports")
	for what, o := range objects {
		switch o["kind"] {
		case "Service":
			selects(what, dig(o, "spec", "selector"))
			for _, p := range dig(o, "spec", "ports").([]any) {
				if !named(containerPorts, dig(p, "targetPort")) {
					t.Errorf("%s leads to %v, which is no port of the pod", what, dig(p, "targetPort"))
				}
			}
		case "Ingress":
			backend := dig(o, "spec", "rules", 0, "http", "paths", 0, "backend", "service")
			service := objects["Service/"+dig(backend, "name").(string)]
			if !named(dig(service, "spec", "ports"), dig(backend, "port", "name")) {
				t.Errorf("%s leads to %v, which is not there", what, backend)
			}
		case "NetworkPolicy":
			selects(what, dig(o, "spec", "podSelector", "matchLabels"))
			for _, rule := range dig(o, "spec", "ingress").([]any) {
				for _, p := range dig(rule, "ports").([]any) {
					if !named(containerPorts, dig(p, "port")) {
						t.Errorf("%s admits to %v, which is no port of the pod", what, p)
					}
				}
			}
		case "PodDisruptionBudget":
			selects(what, dig(o, "spec", "selector", "matchLabels"))
		case "ServiceMonitor":
			if !slices.ContainsFunc(slices.Collect(maps.Values(objects)), func(s map[string]any) bool {
				return s["kind"] == "Service" && named(dig(s, "spec", "ports"), dig(o, "spec", "endpoints", 0, "port"))
			}) {
				t.Errorf("%s asks a port that no service has", what)
			}
		}
	}
}

// The server is told what the values say.
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
	told(t, objects,
		"--authorized-keys=/etc/pairterm-keys/authorized_keys", "--gate=all", "--name=signal.example.org",
		"--stun-public=stun.example.org:3478,3479", "--trusted-proxy=10.0.0.0/8", "--tls-cert=/etc/pairterm-tls/tls.crt", "--metrics=:9090")
}

// Several replicas find each other through NATS, and go one by one.
func TestChartReplicas(t *testing.T) {
	need(t, "helm")
	objects, text, err := render(t, variants["replicas"]...)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	told(t, objects, "--nats=tls://a.example.org:4443,nats://b.example.org", "--nats-creds=/etc/pairterm-nats/user.creds",
		"--nats-ca=/etc/pairterm-nats/ca.crt", "--nats-cert=/etc/pairterm-nats/tls.crt", "--nats-key=/etc/pairterm-nats/tls.key", "--nats-secret-file=/etc/pairterm-nats/secret", "--nats-name=blue")
	deployment := objects["Deployment/r-signal"]
	for what, got := range map[string]bool{
		"three replicas":  dig(deployment, "spec", "replicas") == 3,
		"one by one":      dig(deployment, "spec", "strategy", "rollingUpdate", "maxUnavailable") == 0,
		"the secret":      strings.Contains(text, "secretName: nats,"),
		"the way to NATS": dig(objects["NetworkPolicy/r-signal"], "spec", "egress", 1, "ports", 0, "port") == 4443 && dig(objects["NetworkPolicy/r-signal"], "spec", "egress", 1, "ports", 1, "port") == 4222,
	} {
		if !got {
			t.Errorf("not so: %s", what)
		}
	}
}

// told checks that the server is given some arguments, and none that it does not
// know.
func told(t *testing.T, objects map[string]map[string]any, want ...string) {
	t.Helper()
	args, _ := dig(objects["Deployment/r-signal"], "spec", "template", "spec", "containers", 0, "args").([]any)
	for _, w := range want {
		if !slices.Contains(args, any(w)) {
			t.Errorf("the server is not told %s but %q", w, args)
		}
	}
	cmd := exec.Command("go", "run", "./cmd/pairterm", "signal", "--help")
	cmd.Dir = "../.." // the root of the repository
	help, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, help)
	}
	for _, a := range args {
		if flag, _, _ := strings.Cut(a.(string), "="); !strings.Contains(string(help), flag+" ") {
			t.Errorf("pairterm signal has no flag %s", flag)
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
		"an unknown value": {[]string{"--set", "open=true", "--set", "replica=3"}, "replica"},
		"no replica":       {[]string{"--set", "open=true", "--set", "replicas=0"}, "replicas"},
		"islands":          {[]string{"--set", "open=true", "--set", "replicas=3"}, "set nats.url"},
		"NATS nowhere":     {[]string{"--set", "open=true", "--set", "nats.creds=x,nats.existingSecret=x"}, "nats.url is missing"},
		"no secret":        {[]string{"--set", "open=true", "--set", "nats.url=nats://x,nats.creds=x"}, "go together"},
		"a user alone":     {[]string{"--set", "open=true", "--set", "nats.url=nats://x,nats.user=x"}, "nats.user and nats.password"},
		"half a pair":      {[]string{"--set", "open=true", "--set", "nats.url=nats://x,nats.existingSecret=x,nats.cert=x"}, "nats.cert and nats.key"},
		"no URL":           {[]string{"--set", "open=true", "--set", "nats.url=nats.example.org:4222"}, "nats"},
		"an unknown gate":  {[]string{"--set", "open=true", "--set", "gate=none"}, "gate"},
	} {
		if _, out, err := render(t, tt.set...); err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
