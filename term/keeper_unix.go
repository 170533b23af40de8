//go:build unix

package term

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	ossignal "os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeperName is what the keeper is called in lists of processes: not like its
// parent, since who kills the parent by name would kill both.
const keeperName = "terminal-keeper"

// Descriptors of a keeper.
const (
	keeperPipe = iota + 3
	keeperTerminal
	keeperCrash
)

// keeperPatience bounds how long a keeper tries to restore a terminal, and how
// long its parent waits for it to end.
const keeperPatience = 2 * time.Second

// A message to the keeper is its kind, the length of the body in two bytes
// (little endian), and the body. It is below PIPE_BUF and so written whole or
// not at all.
const (
	keeperRaw    = 'R' // settings to go back to, settings in force, undo bytes
	keeperCooked = 'C' // the terminal was given back
	keeperBye    = 'B' // the parent ends; so may the keeper

	keeperHeader = 3
)

type keeper struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process was waited for

	mu    sync.Mutex
	pipe  *os.File
	state keeperState
}

// keeperState is all that a keeper has to know.
type keeperState struct {
	saved, raw *settings
	undone     []byte
}

func (s keeperState) appendBody(dst []byte) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	for _, v := range []*settings{s.saved, s.raw} {
		if err := binary.Write(buf, binary.NativeEndian, v); err != nil {
			return nil, err
		}
	}
	return append(buf.Bytes(), s.undone...), nil
}

func parseKeeperState(body []byte) (s keeperState, err error) {
	s.saved, s.raw = new(settings), new(settings)
	r := bytes.NewReader(body)
	for _, v := range []*settings{s.saved, s.raw} {
		if err := binary.Read(r, binary.NativeEndian, v); err != nil {
			return s, err
		}
	}
	s.undone = body[len(body)-r.Len():]
	return s, nil
}

func startKeeper(t *TTY) (*Keeper, error) {
	path := "/proc/self/exe" // also when the file was replaced meanwhile
	if runtime.GOOS != "linux" {
		var err error
		if path, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	crashed, crash, err := crashSocket()
	if err != nil {
		w.Close()
		return nil, err
	}
	defer crashed.Close()
	defer crash.Close()
	cmd := &exec.Cmd{
		Path:       path,
		Args:       []string{keeperName},
		Env:        []string{keeperEnv + "=1", "GOMAXPROCS=1", "GOTRACEBACK=none"},
		Dir:        "/",
		ExtraFiles: []*os.File{r, t.w, crashed},
		SysProcAttr: &unix.SysProcAttr{
			Setsid: true,
		},
	}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start the keeper of the terminal: %w", err)
	}
	if err := debug.SetCrashOutput(crash, debug.CrashOptions{}); err != nil {
		w.Close()
		_ = cmd.Wait()
		return nil, err
	}
	k := &Keeper{keeper{cmd: cmd, pipe: w, done: make(chan struct{})}}
	go func() {
		defer close(k.done)
		_ = cmd.Wait()
	}()
	return k, nil
}

// crashSocket returns the two ends of what the Go runtime writes a report of a
// crash to, before it ends the process. Its buffer takes only the beginning of
// one; then the runtime waits for the keeper to read, who restores the terminal
// first. So it is restored before the shell looks at it: what a shell finds
// after a program that ended by itself, it may take for intended.
func crashSocket() (reader, writer *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	_ = unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUF, 1)
	return os.NewFile(uintptr(fds[0]), "crash"), os.NewFile(uintptr(fds[1]), "crash"), nil
}

// raw says that the terminal is in the parent's hands.
func (k *Keeper) raw(saved, raw *settings) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.saved, k.state.raw = saved, raw
	if k.state.undone == nil {
		k.state.undone = (&modes{}).appendUndo(nil)
	}
	k.send()
}

// undo says what to write to undo the modes of the terminal.
func (k *Keeper) undo(p []byte) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.undone = p
	k.send()
}

// cooked says that the terminal was given back.
func (k *Keeper) cooked() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = keeperState{}
	k.message(keeperCooked, nil)
}

func (k *Keeper) send() {
	if k.state.saved == nil {
		return
	}
	if body, err := k.state.appendBody(nil); err == nil {
		k.message(keeperRaw, body)
	}
}

// message sends what fits into the pipe now, for a keeper that was stopped
// must not stop its parent. Every message tells all, so the next one makes up
// for one that was lost.
func (k *Keeper) message(kind byte, body []byte) {
	if k.pipe == nil || len(body) > maxKeeperBody {
		return
	}
	msg := append([]byte{kind, byte(len(body)), byte(len(body) >> 8)}, body...)
	conn, err := k.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Write(func(fd uintptr) bool {
		_, _ = unix.Write(int(fd), msg)
		return true
	})
}

// close ends the keeper and waits for it.
func (k *Keeper) close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	k.message(keeperBye, nil)
	_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	if k.pipe != nil {
		k.pipe.Close()
		k.pipe = nil
	}
	k.mu.Unlock()
	select {
	case <-k.done:
	case <-time.After(keeperPatience):
		_ = k.cmd.Process.Kill()
		<-k.done
	}
}

// RunKeeper does the work of a keeper if this process was started as one, and
// reports whether it was: then main should return. It must be called before
// anything else.
func RunKeeper() bool {
	if os.Getenv(keeperEnv) == "" {
		return false
	}
	ossignal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE,
		unix.SIGTSTP, unix.SIGTTOU, unix.SIGTTIN, unix.SIGUSR1, unix.SIGUSR2)
	if runtime.GOOS == "linux" {
		_ = os.WriteFile("/proc/self/comm", []byte(keeperName), 0)
	}
	_ = unix.SetNonblock(keeperPipe, true)
	pipe := os.NewFile(keeperPipe, "pipe")
	terminal := os.NewFile(keeperTerminal, "terminal")
	crash := os.NewFile(keeperCrash, "crash")
	if pipe != nil && terminal != nil && crash != nil {
		keep(pipe, terminal, crash)
	}
	return true
}

// keep waits for the parent to say goodbye, to crash or to be gone, and undoes
// what there is to undo then.
func keep(pipe, terminal, crash *os.File) {
	go func() {
		if n, _ := crash.Read(make([]byte, 1)); n > 0 {
			// What it said before is in the pipe already.
			_ = pipe.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		}
	}()
	state := awaitEnd(pipe)
	if state.saved == nil {
		return
	}
	time.AfterFunc(keeperPatience, func() { os.Exit(1) })
	// Most shells put the settings right when a job was killed, and then make
	// their own: those must stay.
	now, err := getTermios(terminal)
	if err != nil {
		return
	}
	if *now == *state.raw {
		_ = setTermios(terminal, state.saved)
	}
	_, _ = terminal.Write(append(state.undone, "\r\n"...))
	// The report goes to standard error as well.
	_, _ = io.Copy(io.Discard, crash)
}

// awaitEnd reads what there is to undo until the time has come.
func awaitEnd(pipe io.Reader) (state keeperState) {
	var buf [keeperHeader + maxKeeperBody]byte
	for {
		if _, err := io.ReadFull(pipe, buf[:keeperHeader]); err != nil {
			return state
		}
		n := int(buf[1]) | int(buf[2])<<8
		if n > maxKeeperBody {
			return state
		}
		body := buf[keeperHeader : keeperHeader+n]
		if _, err := io.ReadFull(pipe, body); err != nil {
			return state
		}
		state = keeperState{}
		switch buf[0] {
		case keeperBye:
			return state
		case keeperRaw:
			if s, err := parseKeeperState(bytes.Clone(body)); err == nil {
				state = s
			}
		}
	}
}
