package screen

import (
	"bytes"
	"strconv"
)

// dispatchOSC performs the operating system command in s.str.
func (s *Screen) dispatchOSC() {
	num, rest, _ := bytes.Cut(s.str, []byte(";"))
	n, err := strconv.Atoi(string(num))
	if err != nil || n < 0 {
		return
	}
	switch n {
	case 0:
		s.title = cleanTitle(rest, s.title)
		s.icon = s.title
	case 1:
		s.icon = cleanTitle(rest, s.icon)
	case 2:
		s.title = cleanTitle(rest, s.title)
	case 4:
		s.setPalette(rest)
	case 5:
		s.setSpecial(rest)
	case 8:
		s.setLink(rest)
	case 10, 11, 12, 13, 14, 15, 16, 17, 18, 19:
		s.setDynamic(n-10, rest)
	case 104:
		s.resetPalette(rest)
	case 105:
		s.resetSpecial(rest)
	case 110, 111, 112, 113, 114, 115, 116, 117, 118, 119:
		s.resetColors(func(p *palette) { p.dynamic[n-110] = "" })
	}
}

// setLink is OSC 8: params;URI.
func (s *Screen) setLink(b []byte) {
	params, uri, ok := bytes.Cut(b, []byte(";"))
	if !ok {
		return
	}
	x := s.exts.list[s.cur.pen.ext]
	x.id, x.uri = "", ""
	if len(uri) > 0 && len(uri) <= maxLink && printable(uri) {
		x.uri = string(uri)
		for _, p := range bytes.Split(params, []byte(":")) {
			if id, ok := bytes.CutPrefix(p, []byte("id=")); ok && len(id) <= maxLinkID && printable(id) {
				x.id = string(id)
			}
		}
	}
	s.setExtent(x)
}

// printable reports whether b holds only printable ASCII, and so may stand in a URI or
// a colour.
func printable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}
