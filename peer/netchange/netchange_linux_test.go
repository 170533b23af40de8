package netchange

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// inNamespace runs f in a network namespace of its own, with what f starts by way of ip.
func inNamespace(t *testing.T, f func(ip func(args ...string))) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip (iproute2) is not here")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		f(func(args ...string) {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Errorf("ip %v: %v: %s", args, err, out)
			}
		})
		done <- nil
	}()
	if err := <-done; errors.Is(err, syscall.EPERM) {
		t.Skip("network namespaces need root")
	} else if err != nil {
		t.Fatal(err)
	}
}

func TestNotify(t *testing.T) {
	inNamespace(t, func(ip func(...string)) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		news := Notify(ctx, time.Hour)
		expect := func(what string) {
			select {
			case <-news:
			case <-time.After(10 * time.Second):
				t.Errorf("%s: not told", what)
			}
		}
		drain := func() { // what a command before may still tell
			time.Sleep(2 * settle)
			select {
			case <-news:
			default:
			}
		}
		time.Sleep(2 * settle)
		select {
		case <-news:
			t.Error("told of nothing")
		default:
		}
		for _, step := range [][]string{
			{"link", "set", "lo", "up"},
			{"addr", "add", "10.1.2.3/24", "dev", "lo"},
			{"route", "add", "10.9.0.0/16", "dev", "lo"},
			{"addr", "del", "10.1.2.3/24", "dev", "lo"},
		} {
			ip(step...)
			expect(step[0] + " " + step[1])
			drain()
		}
	})
}
