//go:build linux

package deploy_test

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pairterm/pairterm/signal"
)

// storage is where buildah keeps the containers and images of a test.
type storage struct {
	t   *testing.T
	dir string
}

func newStorage(t *testing.T) *storage {
	t.Helper()
	s := &storage{t, t.TempDir()}
	if err := os.Mkdir(s.dir+"/lib", 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("[network]\nnetwork_config_dir = %q\n", s.dir+"/network")
	if err := os.WriteFile(s.dir+"/containers.conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.buildah("umount", "--all")
		s.buildah("rm", "--all")
	})
	return s
}

// buildah returns what it prints to standard output. It keeps a cache in /var/lib
// and a lock in /etc, whatever it is told, unless those are elsewhere.
func (s *storage) buildah(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0/lib" /var/lib && exec buildah "$@"`,
		s.dir, "--root", s.dir + "/root", "--runroot", s.dir + "/run", "--storage-driver", "vfs"}, args...)...)
	cmd.Dir = "../.." // the root of the repository
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+s.dir+"/containers.conf")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("buildah %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// toolchain makes an image in which the Dockerfile's first stage can run, from
// what is on this machine: no registry is asked. Go itself is a volume.
func (s *storage) toolchain() string {
	s.t.Helper()
	const name = "localhost/toolchain"
	c := s.buildah("from", "scratch")
	s.buildah("copy", c, "/bin/busybox", "/bin/busybox")
	s.buildah("copy", c, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
	s.buildah("run", "--isolation", "chroot", "--network", "host", c, "/bin/busybox", "--install", "-s", "/bin")
	s.buildah("run", "--isolation", "chroot", "--network", "host", c, "/bin/mkdir", "-m", "1777", "/tmp")
	s.buildah("config",
		"--env", "PATH=/usr/local/go/bin:/bin", "--env", "GOPATH=/go", "--env", "GOCACHE=/cache",
		"--env", "GOPROXY="+goEnv(s.t, "GOPROXY"), "--env", "GOTOOLCHAIN=local", c)
	s.buildah("commit", "--rm", c, name)
	return name
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// The image is built as the Dockerfile says, holds one static program and
// little else, and serves as nobody, without capabilities, on a file system
// that cannot be written.
func TestImage(t *testing.T) {
	need(t, "buildah")
	need(t, "busybox")
	if os.Getuid() != 0 {
		t.Skip("building an image without a user namespace takes root")
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("there are no mount namespaces to be had here: %v\n%s", err, out)
	}
	s := newStorage(t)
	s.buildah("build", "--isolation", "chroot", "--network", "host", "--from", s.toolchain(),
		"--volume", goEnv(t, "GOROOT")+":/usr/local/go:ro", "--volume", goEnv(t, "GOMODCACHE")+":/go/pkg/mod",
		"--volume", goEnv(t, "GOCACHE")+":/cache",
		"--file", "signal/deploy/Dockerfile", "--tag", "pairterm-signal", ".")

	var image struct {
		OCIv1 struct {
			Config struct {
				User         string
				Entrypoint   []string
				Env          []string
				ExposedPorts map[string]struct{}
			}
		}
	}
	if err := json.Unmarshal([]byte(s.buildah("inspect", "--type", "image", "pairterm-signal")), &image); err != nil {
		t.Fatal(err)
	}
	config := image.OCIv1.Config
	if config.User != "65532:65532" || !slices.Equal(config.Entrypoint, []string{"/pairterm", "signal"}) || len(config.ExposedPorts) != 3 {
		t.Errorf("the image's configuration is %+v", config)
	}

	root := s.buildah("mount", s.buildah("from", "--pull-never", "pairterm-signal"))
	if got, want := files(t, root), []string{
		"-rw-r--r-- 0 etc/ssl/certs/ca-certificates.crt",
		"-rwxr-xr-x 0 pairterm",
		"drwx------ 65532 var/lib/pairterm",
	}; !slices.Equal(got, want) {
		t.Errorf("the image holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	program, err := elf.Open(root + "/pairterm")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program is not static: it has %v", p.Type)
		}
	}
	serves(t, root, config.Env)
}

// files lists what is no directory, and empty directories, with mode and owner.
func files(t *testing.T, root string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if below, err := os.ReadDir(path); err != nil || len(below) > 0 {
				return err
			}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		list = append(list, fmt.Sprintf("%v %d %s", info.Mode(), info.Sys().(*syscall.Stat_t).Uid, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// serves runs the image as the documentation has it run, less the networks of
// a container engine: user 65532, no capability, no way to one, and nothing that
// can be written. The mounts are those of a namespace that ends with it.
func serves(t *testing.T, root string, env []string) {
	const script = `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" &&
		exec setpriv --no-new-privs chroot --userspec=65532:65532 --groups= "$0" /pairterm signal "$@"`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, root, "--listen", "127.0.0.1:0", "--stun", "127.0.0.1:0", "--open")
	cmd.Env = env
	if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }) {
		cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	lines := bufio.NewScanner(out)
	var url, said string
	for url == "" && lines.Scan() {
		said += lines.Text() + "\n"
		if m := regexp.MustCompile(`signaling on (\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			url = "ws://" + m[1]
		}
	}
	if url == "" {
		t.Fatalf("the server says\n%s", said)
	}
	go func() {
		for lines.Scan() { // so that it never waits for us
		}
	}()

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the process has not %q:\n%s", want, status)
		}
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := signal.Register(t.Context(), url, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	guest, _, err := signal.Dial(t.Context(), url, reg.Info().Room, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = guest.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 143 {
		t.Errorf("the server ended with %v", cmd.ProcessState)
	}
}
