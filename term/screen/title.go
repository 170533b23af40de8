package screen

import "strings"

// cleanTitle is a title as it is kept: bounded, and free of control characters
// and malformed UTF-8, since it is written to other people's terminals.
//
// Old is the title so far, which is mostly the same again.
func cleanTitle(b []byte, old string) string {
	if string(b) == old {
		return old
	}
	var t strings.Builder
	for _, r := range string(b) {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			continue
		}
		if t.Len()+len(string(r)) > maxTitle {
			break
		}
		t.WriteRune(r)
	}
	return t.String()
}

// windowOp is XTWINOPS: the title stack, and reports, which need not be
// answered. Nobody's window is moved or resized from a distance.
func (s *Screen) windowOp() bool {
	which := s.param(1, 0)
	switch s.param(0, 0) {
	case 22:
		s.pushTitle()
		return which <= 2
	case 23:
		return s.popTitle(which) && which <= 2
	case 18:
		s.answerf("\x1b[8;%d;%dt", s.height, s.cols)
	}
	return false
}

// pushTitle and popTitle are the stack of titles.
func (s *Screen) pushTitle() {
	if s.titlesEpoch != s.epoch {
		s.titles = append(make([]titlePair, 0, maxTitleStack), s.titles...)
		s.titlesEpoch = s.epoch
	}
	if len(s.titles) == maxTitleStack {
		copy(s.titles, s.titles[1:])
		s.titles = s.titles[:maxTitleStack-1]
	}
	s.titles = append(s.titles, titlePair{s.title, s.icon})
}

func (s *Screen) popTitle(which int) bool {
	n := len(s.titles)
	if n == 0 {
		return false
	}
	top := s.titles[n-1]
	s.titles = s.titles[:n-1]
	if which != 1 {
		s.title = top.title
	}
	if which != 2 {
		s.icon = top.icon
	}
	return true
}
