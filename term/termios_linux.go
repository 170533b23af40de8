package term

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	ioctlReadTermios  = unix.TCGETS
	ioctlWriteTermios = unix.TCSETS
	ioctlSession      = unix.TIOCGSID

	iutf8 = unix.IUTF8
)

// flushInput throws away what was typed on a PTY and not read. The kernel holds it in two
// places: what the slave has taken, and what it has had no room for, which only the
// master's side can throw away, and which would otherwise come after.
func flushInput(master, slave *os.File) {
	_ = control(master, func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCOFLUSH) })
	_ = control(slave, func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
}
