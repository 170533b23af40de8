//go:build !linux

package thin

import "syscall"

func set(syscall.RawConn) {}
