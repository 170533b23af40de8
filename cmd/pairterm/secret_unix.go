//go:build !windows

package main

import "io/fs"

// secret reports whether only the owner can read a file.
func secret(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 == 0 }
