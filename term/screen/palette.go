package screen

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// palette holds the colours that the program has overridden, as it named them
// (XParseColor syntax).
type palette struct {
	entries [256]string // OSC 4, OSC 104
	special [8]string   // OSC 5, OSC 105
	dynamic [10]string  // OSC 10..19, OSC 110..119
}

// ownPalette returns the palette to be written to, which no snapshot shares.
func (s *Screen) ownPalette() *palette {
	if s.palette == nil || s.paletteEpoch != s.epoch {
		p := new(palette)
		if s.palette != nil {
			*p = *s.palette
		}
		s.palette, s.paletteEpoch = p, s.epoch
	}
	return s.palette
}

// setColor overrides a colour that find finds in a palette.
func (s *Screen) setColor(spec []byte, find func(*palette) *string) {
	if c := colorSpec(spec); c != "" {
		*find(s.ownPalette()) = c
	}
}

// resetColors takes overrides back.
func (s *Screen) resetColors(reset func(*palette)) {
	if s.palette == nil {
		return
	}
	reset(s.ownPalette())
	if *s.palette == (palette{}) {
		s.palette = nil
	}
}

// colorSpec is a colour specification as it is kept, empty if it is none.
func colorSpec(b []byte) string {
	if len(b) == 0 || len(b) > maxColorSpec || !printable(b) || bytes.ContainsAny(b, ";?") {
		return ""
	}
	return string(b)
}

// eachPair calls f for the pairs of index;colour in an OSC.
func eachPair(b []byte, f func(i int, spec []byte)) {
	for len(b) > 0 {
		var num, spec []byte
		num, b, _ = bytes.Cut(b, []byte(";"))
		spec, b, _ = bytes.Cut(b, []byte(";"))
		if i, err := strconv.Atoi(string(num)); err == nil && i >= 0 {
			f(i, spec)
		}
	}
}

// setPalette is OSC 4, in which the indices from 256 on are the special
// colours of OSC 5.
func (s *Screen) setPalette(b []byte) {
	eachPair(b, func(i int, spec []byte) {
		switch special := i - len(palette{}.entries); {
		case string(spec) == "?":
			s.reportColor(fmt.Sprintf("4;%d", i), s.palette.entry(i))
		case special < 0:
			s.setColor(spec, func(p *palette) *string { return &p.entries[i] })
		case special < len(palette{}.special):
			s.setColor(spec, func(p *palette) *string { return &p.special[special] })
		}
	})
}

func (s *Screen) setSpecial(b []byte) {
	eachPair(b, func(i int, spec []byte) {
		if i < len(palette{}.special) {
			s.setColor(spec, func(p *palette) *string { return &p.special[i] })
		}
	})
}

// setDynamic is OSC 10..19: further colours count up from the first.
func (s *Screen) setDynamic(i int, b []byte) {
	for spec := range bytes.SplitSeq(b, []byte(";")) {
		if i >= len(palette{}.dynamic) {
			return
		}
		if string(spec) == "?" {
			s.reportColor(strconv.Itoa(10+i), s.palette.dynamicColor(i))
		} else {
			s.setColor(spec, func(p *palette) *string { return &p.dynamic[i] })
		}
		i++
	}
}

func (s *Screen) resetPalette(b []byte) {
	s.resetColors(func(p *palette) {
		if len(b) == 0 {
			p.entries = [len(p.entries)]string{}
			return
		}
		eachIndex(b, func(i int) {
			switch special := i - len(p.entries); {
			case special < 0:
				p.entries[i] = ""
			case special < len(p.special):
				p.special[special] = ""
			}
		})
	})
}

func (s *Screen) resetSpecial(b []byte) {
	s.resetColors(func(p *palette) {
		if len(b) == 0 {
			p.special = [len(p.special)]string{}
			return
		}
		eachIndex(b, func(i int) {
			if i < len(p.special) {
				p.special[i] = ""
			}
		})
	})
}

// eachIndex calls f for the indices in an OSC that resets colours.
func eachIndex(b []byte, f func(i int)) {
	for num := range bytes.SplitSeq(b, []byte(";")) {
		if i, err := strconv.Atoi(string(num)); err == nil && i >= 0 {
			f(i)
		}
	}
}

// reportColor answers an OSC colour query; a colour that is only known by its
// name is not reported.
func (s *Screen) reportColor(what, spec string) {
	if s.opts.Reply == nil {
		return
	}
	if c, ok := parseColor(spec); ok {
		s.answerf("\x1b]%s;rgb:%04x/%04x/%04x\x1b\\", what, c[0], c[1], c[2])
	}
}

// entry is palette entry i, xterm's where it is not overridden.
func (p *palette) entry(i int) string {
	if i >= len(palette{}.entries) {
		return ""
	}
	if p != nil && p.entries[i] != "" {
		return p.entries[i]
	}
	switch {
	case i < 16:
		return xtermColors[i]
	case i < 232:
		i -= 16
		return fmt.Sprintf("#%02x%02x%02x", cubeLevel(i/36), cubeLevel(i/6%6), cubeLevel(i%6))
	}
	v := 8 + 10*(i-232)
	return fmt.Sprintf("#%02x%02x%02x", v, v, v)
}

func cubeLevel(n int) int {
	if n == 0 {
		return 0
	}
	return 55 + 40*n
}

var xtermColors = [16]string{
	"#000000", "#cd0000", "#00cd00", "#cdcd00", "#0000ee", "#cd00cd", "#00cdcd", "#e5e5e5",
	"#7f7f7f", "#ff0000", "#00ff00", "#ffff00", "#5c5cff", "#ff00ff", "#00ffff", "#ffffff",
}

// dynamicColor is dynamic colour i: light on dark where it is not overridden,
// which agrees with the colour scheme that DSR 996 reports.
func (p *palette) dynamicColor(i int) string {
	if p != nil && p.dynamic[i] != "" {
		return p.dynamic[i]
	}
	switch i {
	case 1, 4, 6:
		return "#000000"
	}
	return "#e5e5e5"
}

// parseColor reads rgb:r/g/b and #rgb with 1 to 4 digits a component
// (XParseColor), scaled to 16 bits.
func parseColor(spec string) (c [3]uint16, ok bool) {
	var parts []string
	if rest, found := strings.CutPrefix(spec, "rgb:"); found {
		parts = strings.Split(rest, "/")
	} else if rest, found := strings.CutPrefix(spec, "#"); found && len(rest)%3 == 0 {
		n := len(rest) / 3
		parts = []string{rest[:n], rest[n : 2*n], rest[2*n:]}
	}
	if len(parts) != 3 {
		return c, false
	}
	for i, part := range parts {
		if len(part) < 1 || len(part) > 4 {
			return c, false
		}
		v, err := strconv.ParseUint(part, 16, 16)
		if err != nil {
			return c, false
		}
		c[i] = uint16(v * 0xffff / (1<<(4*len(part)) - 1))
	}
	return c, true
}
