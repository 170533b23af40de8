package term

import "golang.org/x/sys/unix"

const (
	ioctlReadTermios  = unix.TCGETS
	ioctlWriteTermios = unix.TCSETS
	ioctlSession      = unix.TIOCGSID

	iutf8 = unix.IUTF8
)

// flushInput throws away what was typed on a terminal and not read.
func flushInput(fd int) error {
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
}
