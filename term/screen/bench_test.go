package screen_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pairterm/pairterm/term/screen"
)

// streams are what the benchmarks write, about a megabyte each.
func streams(tb testing.TB) map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the build of package net http server request reply error warning timeout closed retry in 12ms for 4711 bytes from host at line")
	var plain, list, cjk bytes.Buffer
	for plain.Len() < 1<<20 {
		fmt.Fprintf(&plain, "2026-11-22T10:%02d:%02d.%03dZ ", rnd.IntN(60), rnd.IntN(60), rnd.IntN(1000))
		for range 3 + rnd.IntN(12) {
			plain.WriteString(words[rnd.IntN(len(words))])
			plain.WriteByte(' ')
		}
		plain.WriteString("\r\n")
	}
	for list.Len() < 1<<20 {
		for range 4 {
			name := words[rnd.IntN(len(words))] + "_" + words[rnd.IntN(len(words))]
			fmt.Fprintf(&list, "\x1b[0m\x1b[01;3%dm%s\x1b[0m%s", rnd.IntN(8), name, strings.Repeat(" ", 24-len(name)))
		}
		list.WriteString("\r\n")
	}
	text := []rune("端末の画面は行と列からなり漢字は二つの桁を占める。文字の幅は表から引く、そして折り返す")
	for cjk.Len() < 1<<20 {
		for range 10 + rnd.IntN(25) {
			cjk.WriteRune(text[rnd.IntN(len(text))])
		}
		cjk.WriteString("\r\n")
	}
	var full bytes.Buffer
	for _, r := range loadRecordings(tb, filepath.Join("testdata", "conformance")) {
		switch r.Name {
		case "htop-80x24", "vim-80x24", "mc-200x50", "tmux-200x50", "cmatrix-80x24":
			full.Write(r.raw)
			full.WriteByte(0x18)
		}
	}
	return map[string][]byte{"plain": plain.Bytes(), "listing": list.Bytes(), "cjk": cjk.Bytes(), "fullscreen": full.Bytes()}
}

func BenchmarkWrite(b *testing.B) {
	all := streams(b)
	for _, name := range []string{"plain", "listing", "fullscreen", "cjk"} {
		for _, size := range []struct{ cols, rows int }{{80, 24}, {200, 50}} {
			b.Run(fmt.Sprintf("%s/%dx%d", name, size.cols, size.rows), func(b *testing.B) {
				data := all[name]
				s := screen.New(size.cols, size.rows, screen.Options{})
				// Until the scrollback is full and its rows go round.
				for range 8 {
					s.Write(data)
				}
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				b.ResetTimer()
				for b.Loop() {
					for p := data; len(p) > 0; {
						n := min(len(p), 32<<10)
						s.Write(p[:n])
						p = p[n:]
					}
				}
			})
		}
	}
}

// busy returns snapshots of a full 200×50 screen before and after some work.
func busy(b *testing.B) (s *screen.Screen, states []*screen.Snapshot) {
	r := func() recording {
		for _, r := range loadRecordings(b, filepath.Join("testdata", "conformance")) {
			if r.Name == "tmux-200x50" {
				return r
			}
		}
		b.Fatal("no recording of tmux")
		return recording{}
	}()
	s = screen.New(r.Cols, r.Rows, screen.Options{})
	for i := 0; i < 40; i++ {
		s.Write(r.raw[len(r.raw)*i/41 : len(r.raw)*(i+1)/41])
		states = append(states, s.Snapshot())
	}
	return s, states
}

func BenchmarkSnapshot(b *testing.B) {
	s, _ := busy(b)
	log := streams(b)["plain"]
	for range 4 {
		s.Write(log)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Write([]byte{0}) // or it would be the same snapshot
		s.Snapshot()
	}
}

func BenchmarkDiff(b *testing.B) {
	_, states := busy(b)
	b.Run("step", func(b *testing.B) {
		var buf []byte
		n, i := 0, 0
		b.ReportAllocs()
		for b.Loop() {
			buf = screen.AppendDiff(buf[:0], states[i%39], states[i%39+1])
			n += len(buf)
			i++
		}
		b.ReportMetric(float64(n)/float64(b.N), "bytes/diff")
	})
	b.Run("far", func(b *testing.B) {
		var buf []byte
		n, i := 0, 0
		b.ReportAllocs()
		for b.Loop() {
			buf = screen.AppendDiff(buf[:0], states[i%40], states[(i+17)%40])
			n += len(buf)
			i++
		}
		b.ReportMetric(float64(n)/float64(b.N), "bytes/diff")
	})
	b.Run("full", func(b *testing.B) {
		var buf []byte
		n, i := 0, 0
		b.ReportAllocs()
		for b.Loop() {
			buf = screen.AppendDiff(buf[:0], nil, states[i%40])
			n += len(buf)
			i++
		}
		b.ReportMetric(float64(n)/float64(b.N), "bytes/diff")
	})
}
