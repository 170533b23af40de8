package screen

// A charset maps the bytes 0x20..0x7e to runes. Characters beyond ASCII come
// as UTF-8 and are never mapped.
type charset uint8

// The character sets that are told apart: those of xterm whose use is alive.
const (
	charsetASCII    charset = iota
	charsetGraphics         // DEC special graphics
	charsetUK               // '#' is the pound sign
	charsetDutch
	charsetFinnish
	charsetFrench
	charsetFrenchCanadian
	charsetGerman
	charsetItalian
	charsetNorwegian
	charsetPortuguese
	charsetSpanish
	charsetSwedish
	charsetSwiss
	charsetCount
)

// charsets are the designated sets and the one that is invoked into GL. GR
// serves nothing in UTF-8.
type charsets struct {
	g  [4]charset
	gl uint8
}

// active is the charset that a byte is mapped through.
func (c *charsets) active() charset { return c.g[c.gl] }

// rune is what the set shows for a printable ASCII byte.
func (c charset) rune(b byte) rune {
	if t := charsetRunes[c]; t != nil {
		return t[b]
	}
	return rune(b)
}

// designators gives the final of SCS for each set; a set may have several, of
// which the first is the one that diffs use.
var designators = [charsetCount]string{
	charsetASCII:          "B",
	charsetGraphics:       "0",
	charsetUK:             "A",
	charsetDutch:          "4",
	charsetFinnish:        "5C",
	charsetFrench:         "Rf",
	charsetFrenchCanadian: "Q9",
	charsetGerman:         "K",
	charsetItalian:        "Y",
	charsetNorwegian:      "6E`",
	charsetPortuguese:     "%6",
	charsetSpanish:        "Z",
	charsetSwedish:        "7H",
	charsetSwiss:          "=",
}

// charsetByFinal finds the set of an SCS sequence; unknown ones count as ASCII
// as in xterm.js and tmux.
func charsetByFinal(inter, final byte) charset {
	if inter == '%' {
		if final == '6' {
			return charsetPortuguese
		}
		return charsetASCII
	}
	if inter != 0 {
		return charsetASCII
	}
	for set, finals := range designators {
		if finals[0] == '%' {
			continue
		}
		for i := range len(finals) {
			if finals[i] == final {
				return charset(set)
			}
		}
	}
	return charsetASCII
}

// charsetRunes holds, for each set, the runes of all 128 bytes; nil for ASCII.
var charsetRunes = [charsetCount]*[128]rune{
	charsetGraphics:       variant("_ `◆a▒b␉c␌d␍e␊f°g±h␤i␋j┘k┐l┌m└n┼o⎺p⎻q─r⎼s⎽t├u┤v┴w┬x│y≤z≥{π|≠}£~·"),
	charsetUK:             variant("#£"),
	charsetDutch:          variant("#£@¾[ĳ\\½]|{¨|f}¼~´"),
	charsetFinnish:        variant("[Ä\\Ö]Å^Ü`é{ä|ö}å~ü"),
	charsetFrench:         variant("#£@à[°\\ç]§{é|ù}è~¨"),
	charsetFrenchCanadian: variant("@à[â\\ç]ê^î`ô{é|ù}è~û"),
	charsetGerman:         variant("@§[Ä\\Ö]Ü{ä|ö}ü~ß"),
	charsetItalian:        variant("#£@§[°\\ç]é`ù{à|ò}è~ì"),
	charsetNorwegian:      variant("@Ä[Æ\\Ø]Å^Ü`ä{æ|ø}å~ü"),
	charsetPortuguese:     variant("[Ã\\Ç]Õ{ã|ç}õ"),
	charsetSpanish:        variant("#£@§[¡\\Ñ]¿{°|ñ}ç"),
	charsetSwedish:        variant("@É[Ä\\Ö]Å^Ü`é{ä|ö}å~ü"),
	charsetSwiss:          variant("#ù@à[é\\ç]ê^î_è`ô{ä|ö}ü~û"),
}

// variant is ASCII with some bytes replaced: pairs of a byte and its rune.
func variant(pairs string) *[128]rune {
	var t [128]rune
	for i := range t {
		t[i] = rune(i)
	}
	from := rune(-1)
	for _, r := range pairs {
		if from < 0 {
			from = r
			continue
		}
		t[from], from = r, -1
	}
	return &t
}
