//go:build !linux && !darwin && !freebsd && !windows

package portmap

import (
	"errors"
	"net/netip"
)

// defaultGateway is not known on this system.
func defaultGateway(bool) (netip.Addr, error) { return netip.Addr{}, errors.ErrUnsupported }
