package term

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// A quickFile reads or writes a file that never blocks, without telling Go's scheduler
// about its system calls. Reading and writing a terminal takes the kernel some 20 µs,
// which is when the scheduler begins to take the processor away from a goroutine in a
// system call and to wake other threads: with 4 KiB a call, which is all that a terminal
// takes or gives, that costs as much as the calls themselves. It is for one caller at a
// time.
type quickFile struct {
	*os.File
	conn    syscall.RawConn
	attempt func(fd uintptr) (done bool)

	// Of the call under way.
	buf   []byte
	n     int
	errno syscall.Errno
}

// quickReader returns what reads f, which takes deadlines.
func quickReader(f *os.File) deadlineReader { return quicken(f, (*quickFile).read) }

// quickWriter returns what writes f, which takes deadlines.
func quickWriter(f *os.File) io.Writer { return quicken(f, (*quickFile).write) }

func quicken(f *os.File, attempt func(*quickFile, uintptr) bool) *quickFile {
	q := &quickFile{File: f}
	q.conn, _ = f.SyscallConn() // fails for no file but nil
	q.attempt = func(fd uintptr) bool { return attempt(q, fd) }
	return q
}

func (q *quickFile) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := q.do("read", p, q.conn.Read)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (q *quickFile) Write(p []byte) (int, error) { return q.do("write", p, q.conn.Write) }

func (q *quickFile) do(op string, p []byte, wait func(func(uintptr) bool) error) (int, error) {
	q.buf = p
	err := wait(q.attempt)
	n, errno := q.n, q.errno
	q.buf, q.n, q.errno = nil, 0, 0
	switch {
	case errno != 0:
		return n, &os.PathError{Op: op, Path: q.Name(), Err: errno}
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return n, &os.PathError{Op: op, Path: q.Name(), Err: os.ErrClosed}
	}
	return n, err
}

// read reads once, and reports whether the call is done.
func (q *quickFile) read(fd uintptr) bool {
	n, again := q.call(syscall.SYS_READ, fd)
	q.n = n
	return !again
}

// write writes as much as the file takes, and reports whether the call is done.
func (q *quickFile) write(fd uintptr) bool {
	for q.n < len(q.buf) && q.errno == 0 {
		n, again := q.call(syscall.SYS_WRITE, fd)
		if again {
			return false
		}
		if n == 0 && q.errno == 0 {
			q.errno = syscall.EIO
		}
		q.n += n
	}
	return true
}

// call makes a system call for what is left of the buffer.
func (q *quickFile) call(trap, fd uintptr) (n int, again bool) {
	for {
		p := q.buf[q.n:]
		r, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch errno {
		case 0:
			return int(r), false
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, true
		default:
			q.errno = errno
			return 0, false
		}
	}
}
