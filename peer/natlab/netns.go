//go:build linux

package natlab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// node is one network namespace.
type node struct {
	lab  *Lab
	name string
	file *os.File // the namespace, which lasts until this and all processes in it are gone
}

// onThread runs fn on a thread of its own, which ends with it, so that fn may leave the
// thread in another namespace.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- fn()
	}()
	return <-done
}

func (l *Lab) newNode(name string) (*node, error) {
	n := &node{lab: l, name: name}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	l.nodes = append(l.nodes, n)
	l.tb.Logf("natlab: %s is /proc/%d/fd/%d", name, os.Getpid(), n.file.Fd())
	err = n.sysctl(
		"ipv6/conf/all/accept_dad=0", // addresses can be used at once
		"ipv6/conf/default/accept_dad=0",
		"ipv4/conf/all/rp_filter=2", // as distributions have it
		"ipv4/conf/default/rp_filter=2",
	)
	if err != nil {
		return nil, err
	}
	return n, n.ip("link set lo up")
}

// path names the namespace to programs.
func (n *node) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// enter moves the calling thread into the namespace.
func (n *node) enter() error { return unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET) }

// Do runs fn on a thread within the machine's network. Sockets that fn itself opens
// belong there, also later; those of goroutines that it starts do not.
func (n *node) Do(fn func() error) error {
	return onThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return fn()
	})
}

// sysctl sets variables below net, given as "ipv4/ip_forward=1".
func (n *node) sysctl(settings ...string) error {
	return n.Do(func() error {
		for _, s := range settings {
			name, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// ip runs commands of iproute2, one a line.
func (n *node) ip(commands ...string) error {
	return n.feed(strings.Join(commands, "\n"), "ip", "-batch", "-")
}

// nft runs a script of nftables.
func (n *node) nft(script string) error { return n.feed(script, "nft", "-f", "-") }

// feed runs a program with an input.
func (n *node) feed(input string, argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(input)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %q: %w\n%s%s", n.name, argv, err, out.String(), input)
	}
	return nil
}

// private is the shell command that gives a program the lab's names.
const private = `mount --bind "$0/hosts" /etc/hosts && { [ ! -e /etc/resolv.conf ] || mount --bind "$0/resolv.conf" /etc/resolv.conf; } && exec "$@"`

// Start starts a command in the machine's network, where only the lab's names resolve.
// The process is killed at the end of the test, and when the test's process dies; its
// own children are not.
func (n *node) Start(cmd *exec.Cmd) error {
	if cmd.Err != nil {
		return cmd.Err
	}
	cmd.Args = append([]string{"sh", "-c", private, n.lab.etc, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Unshareflags |= syscall.CLONE_NEWNS // makes the mounts private, too
	return n.lab.launch(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return cmd.Start()
	})
}
