package record

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// event adds the line of an event: [seconds, "kind", "data"]. Times never go
// back, as players expect.
func (r *Recorder) event(at time.Time, kind byte, data []byte) {
	elapsed := max(at.Sub(r.start), r.latest)
	r.latest = elapsed
	r.line = append(r.line, '[')
	r.line = strconv.AppendFloat(r.line, elapsed.Seconds(), 'f', 6, 64)
	r.line = append(r.line, `, "`...)
	r.line = append(r.line, kind)
	r.line = append(r.line, `", `...)
	r.line = appendString(r.line, data)
	r.line = append(r.line, "]\n"...)
}

const hex = "0123456789abcdef"

// appendString appends p as a JSON string (RFC 8259, section 7). What is no
// UTF-8 becomes U+FFFD, as it does on a terminal.
func appendString(dst, p []byte) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(p); {
		c := p[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c < 0x20 || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRune(p[i:])
			if r == utf8.RuneError && n == 1 {
				n = malformed(p[i:])
			}
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}

// malformed returns how many bytes at the beginning of p, which is not the
// encoding of a character, make one U+FFFD: as many as might have become one
// (Unicode, section 3.9, "maximal subpart").
func malformed(p []byte) int {
	n := 1
	for n < len(p) && n < utf8.UTFMax && !utf8.FullRune(p[:n+1]) {
		n++
	}
	if utf8.FullRune(p[:1]) {
		return 1
	}
	return n
}
