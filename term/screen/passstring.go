package screen

import (
	"bytes"
	"strconv"
)

// passState is what is to be done with a string in Pass.
type passState uint8

const (
	passUndecided passState = iota // more of its beginning is needed
	passWhole                      // its end decides
	passStream                     // its head went out, the body follows as it comes
	passDrop                       // not for the other terminal
)

// passHead is how much of a string must suffice to know what it is.
const passHead = 512

// begin is called at the start of a string.
func (t *passer) begin(s *Screen) {
	t.string = passUndecided
	switch s.kind {
	case kindSOS, kindPM, kindTitle:
		t.string = passDrop
	case kindDCS:
		// Of these only sixels are for a terminal that is looked at.
		t.string = passDrop
		if s.final == 'q' && s.prefix == 0 && s.ninter == 0 {
			t.string = passStream
			if t.on {
				t.out = append(append(s.appendHead(append(t.out, "\x1bP"...)), s.final), s.str...)
			}
		}
	}
}

// body is called with each piece of a string, before it is collected.
func (t *passer) body(s *Screen, b []byte) {
	if !t.on {
		return
	}
	switch t.string {
	case passStream:
		t.out = append(t.out, b...)
	case passUndecided:
		var buf [passHead]byte
		head := append(buf[:0], s.str[:min(len(s.str), passHead)]...)
		head = append(head, b[:min(len(b), passHead-len(head))]...)
		if s.kind == kindAPC {
			t.string = t.graphics(head, false)
		} else {
			t.string = oscState(head)
			if t.string == passStream {
				t.out = append(append(t.out, "\x1b]"...), head...)
			}
		}
		if t.string == passStream && len(s.str)+len(b) > len(head) {
			t.out = append(t.out, b[len(head)-len(s.str):]...)
		}
		if t.string == passUndecided && len(head) == passHead {
			t.string = passDrop
		}
	}
}

// end is called after a string, with all of its body in s.str unless s.over.
func (t *passer) end(s *Screen, complete bool) {
	if !t.on {
		return
	}
	if t.string == passStream {
		if complete {
			t.out = append(t.out, "\x1b\\"...)
		} else {
			t.out = append(t.out, asciiCAN)
		}
		return
	}
	if !complete || s.over || t.string == passDrop {
		return
	}
	if s.kind == kindAPC {
		if t.graphics(s.str, true) == passStream {
			t.out = append(t.out, "\x1b\\"...)
		}
		return
	}
	t.osc(s)
}

// graphics decides on an APC by its control data, and passes that of kitty's
// graphics with all its answers suppressed. End says that there is no more.
func (t *passer) graphics(head []byte, end bool) passState {
	if len(head) == 0 {
		return passUndecided
	}
	if head[0] != 'G' {
		return passDrop
	}
	control, data, found := bytes.Cut(head[1:], []byte(";"))
	if !found && !end {
		return passUndecided
	}
	out := append(t.out, "\x1b_G"...)
	for key := range bytes.SplitSeq(control, []byte(",")) {
		if string(key) == "a=q" {
			return passDrop
		}
		if len(key) > 0 && !bytes.HasPrefix(key, []byte("q=")) {
			out = append(append(out, key...), ',')
		}
	}
	out = append(out, "q=2"...)
	if found {
		out = append(append(out, ';'), data...)
	}
	t.out = out
	return passStream
}

// oscState decides on an OSC by its beginning.
func oscState(head []byte) passState {
	num, rest, found := bytes.Cut(head, []byte(";"))
	if !found {
		return passUndecided
	}
	n, err := strconv.Atoi(string(num))
	if err != nil {
		return passDrop
	}
	switch n {
	case 7, 9, 133, 633, 777: // directory, notifications and progress, prompt marks
		return passStream
	case 52:
		_, data, found := bytes.Cut(rest, []byte(";"))
		switch {
		case !found || len(data) == 0:
			return passUndecided
		case data[0] == '?':
			return passDrop
		}
		return passStream
	case 1337:
		return itermState(rest)
	case 0, 1, 2, 4, 5, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 22, 104, 105,
		110, 111, 112, 113, 114, 115, 116, 117, 118, 119:
		return passWhole
	}
	return passDrop
}

// itermState decides on iTerm2's commands: those that show something pass.
func itermState(rest []byte) passState {
	undecided := false
	for _, name := range []string{"File=", "MultipartFile=", "FilePart=", "FileEnd", "SetMark", "CurrentDir=", "RemoteHost=", "SetUserVar="} {
		if bytes.HasPrefix(rest, []byte(name)) {
			return passStream
		}
		if len(rest) < len(name) && name[:len(rest)] == string(rest) {
			undecided = true
		}
	}
	if undecided {
		return passUndecided
	}
	return passDrop
}

// osc passes an OSC that has ended, as the model understood it.
func (t *passer) osc(s *Screen) {
	num, rest, _ := bytes.Cut(s.str, []byte(";"))
	n, err := strconv.Atoi(string(num))
	if err != nil {
		return
	}
	switch {
	case n == 0:
		t.out = appendOSC(t.out, 0, s.title)
	case n == 1:
		t.out = appendOSC(t.out, 1, s.icon)
	case n == 2:
		t.out = appendOSC(t.out, 2, s.title)
	case n == 4 || n == 5:
		eachPair(rest, func(i int, spec []byte) {
			if c := colorSpec(spec); c != "" {
				t.out = appendOSC(t.out, n, strconv.Itoa(i)+";"+c)
			}
		})
	case n == 8:
		t.out = appendLink(t.out, s.exts.list[s.cur.pen.ext])
	case n >= 10 && n <= 19:
		for spec := range bytes.SplitSeq(rest, []byte(";")) {
			if c := colorSpec(spec); c != "" && n <= 19 {
				t.out = appendOSC(t.out, n, c)
			}
			n++
		}
	case n == 52, n == 22 && !bytes.ContainsRune(rest, '?'):
		t.out = appendOSC(t.out, n, string(rest))
	case n == 104 || n == 105:
		if len(rest) == 0 {
			t.out = append(strconv.AppendInt(append(t.out, "\x1b]"...), int64(n), 10), "\x1b\\"...)
			return
		}
		for num := range bytes.SplitSeq(rest, []byte(";")) {
			if i, err := strconv.Atoi(string(num)); err == nil && i >= 0 {
				t.out = appendOSC(t.out, n, strconv.Itoa(i))
			}
		}
	case n >= 110 && n <= 119:
		t.out = append(strconv.AppendInt(append(t.out, "\x1b]"...), int64(n), 10), "\x1b\\"...)
	}
}

// appendOSC appends an operating system command.
func appendOSC(b []byte, n int, text string) []byte {
	b = append(b, "\x1b]"...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ';')
	b = append(b, text...)
	return append(b, "\x1b\\"...)
}

// appendLink appends the OSC 8 that opens or closes a hyperlink.
func appendLink(b []byte, x extent) []byte {
	b = append(b, "\x1b]8;"...)
	if x.id != "" {
		b = append(append(b, "id="...), x.id...)
	}
	b = append(b, ';')
	b = append(b, x.uri...)
	return append(b, "\x1b\\"...)
}

// appendMode appends DECSET (final h) or DECRST (final l) of one mode.
func appendMode(b []byte, n int, final byte) []byte {
	b = append(b, "\x1b[?"...)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, final)
}
