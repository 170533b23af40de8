//go:build !unix

package keys

import "io/fs"

const openFlags = 0

// Mode bits say nothing about access on these systems.

func worldWritable(fs.FileMode) bool { return false }

func openToOthers(fs.FileInfo) bool { return false }
