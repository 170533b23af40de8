package portmap

import "time"

// epoch follows a server's epoch time, which counts the seconds since the server lost
// its mappings. Time that jumps shows that it has lost them again.
type epoch struct {
	known bool
	value uint32    // as last told
	at    time.Time // when
}

// observe takes the epoch time of a response and reports whether the server can have
// kept its mappings since the last one, by the rule of RFC 6887 section 8.5: the two
// clocks may differ by a sixteenth and two seconds. NAT-PMP's clocks (RFC 6886 section
// 3.6) keep it too.
func (e *epoch) observe(value uint32, now time.Time) (kept bool) {
	before := *e
	*e = epoch{true, value, now}
	if !before.known {
		return true
	}
	if int64(value)+1 < int64(before.value) {
		return false
	}
	const slack = 2 * time.Second
	server := time.Duration(int64(value)-int64(before.value)) * time.Second
	client := now.Sub(before.at)
	return client+slack >= server-server/16 && server+slack >= client-client/16
}
