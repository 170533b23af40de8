//go:build unix

package keys

import (
	"io/fs"
	"os"
	"syscall"
)

// openFlags keep the opening of a pipe without a writer from waiting for one.
const openFlags = syscall.O_NONBLOCK

func worldWritable(mode fs.FileMode) bool { return mode.Perm()&0o002 != 0 }

// openToOthers tells whether others than the owner could read a private key
// file, by ssh's rule: it only judges files of the user's own.
func openToOthers(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == uint32(os.Getuid()) && info.Mode().Perm()&0o077 != 0
}
