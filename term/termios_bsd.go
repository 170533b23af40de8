//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package term

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	ioctlReadTermios  = unix.TIOCGETA
	ioctlWriteTermios = unix.TIOCSETA
	ioctlSession      = 0x40047463 // TIOCGSID of <sys/ttycom.h>

	iutf8 = 0x4000 // IUTF8 of <sys/termios.h>; ignored where there is none
)

// flushInput throws away what was typed on a PTY and not read.
func flushInput(_, slave *os.File) {
	const fread = 1 // FREAD of <sys/fcntl.h>
	_ = control(slave, func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, fread) })
}
