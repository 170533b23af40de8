package screen

import (
	"encoding/hex"
	"strings"
)

// dispatchDCS performs the device control string in s.str. All but queries are
// for other terminals: sixels, user-defined keys and the like.
func (s *Screen) dispatchDCS() {
	if s.final != 'q' || s.prefix != 0 || s.ninter != 1 {
		return
	}
	switch s.inter[0] {
	case '$':
		s.requestSetting(string(s.str))
	case '+':
		s.requestCapability(string(s.str))
	}
}

// capabilities are what XTGETTCAP tells.
var capabilities = map[string]string{
	"TN":     "xterm-256color",
	"name":   "xterm-256color",
	"Co":     "256",
	"colors": "256",
	"RGB":    "8/8/8",
}

// requestCapability is XTGETTCAP: names in hexadecimal, separated by
// semicolons. As in xterm the first unknown name ends it.
func (s *Screen) requestCapability(names string) {
	if s.opts.Reply == nil {
		return
	}
	for _, name := range strings.Split(names, ";") {
		raw, err := hex.DecodeString(name)
		value, ok := capabilities[string(raw)]
		if err != nil || !ok {
			s.answer("\x1bP0+r" + hexOnly(name) + "\x1b\\")
			return
		}
		s.answer("\x1bP1+r" + name + "=" + strings.ToUpper(hex.EncodeToString([]byte(value))) + "\x1b\\")
	}
}

// hexOnly is name if it is hexadecimal; nothing else is echoed into the
// program's input.
func hexOnly(name string) string {
	if _, err := hex.DecodeString(name); err != nil {
		return ""
	}
	return name
}
