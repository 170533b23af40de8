//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package term

import "golang.org/x/sys/unix"

const (
	ioctlReadTermios  = unix.TIOCGETA
	ioctlWriteTermios = unix.TIOCSETA
	ioctlSession      = 0x40047463 // TIOCGSID of <sys/ttycom.h>

	iutf8 = 0x4000 // IUTF8 of <sys/termios.h>; ignored where there is none
)

// flushInput throws away what was typed on a terminal and not read.
func flushInput(fd int) error {
	const fread = 1 // FREAD of <sys/fcntl.h>
	return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, fread)
}
