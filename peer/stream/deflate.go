package stream

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"sync"
)

const (
	// deflateFrom is the shortest frame that is compressed, in bytes.
	deflateFrom = 256
	// deflateBelow is the rate of a path, in bytes a second, from which on
	// compression takes longer than it saves.
	deflateBelow = 4 << 20
)

// deflater is shared by all streams: compressing takes a fraction of a
// millisecond, and a compressor more memory than the rest of a stream.
type deflater struct {
	w   *flate.Writer
	out bytes.Buffer
}

var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is right
	}
	return &deflater{w: w}
}}

// deflate compresses p, unless that is not worth it on a path of that rate (0
// when it is not known).
func deflate(p []byte, rate float64) ([]byte, bool) {
	if len(p) < deflateFrom || rate > deflateBelow {
		return nil, false
	}
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out.Reset()
	d.w.Reset(&d.out)
	// A bytes.Buffer takes everything.
	_, _ = d.w.Write(p)
	_ = d.w.Close()
	if d.out.Len() >= len(p) {
		return nil, false
	}
	return bytes.Clone(d.out.Bytes()), true
}

var errInflate = errors.New("stream: compressed frame is damaged or too long")

var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

// inflate appends what p expands to, which may be at most limit bytes.
func inflate(dst, p []byte, limit int) ([]byte, error) {
	r := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(p), nil); err != nil {
		return dst, err
	}
	b := bytes.NewBuffer(dst)
	n, err := io.Copy(b, io.LimitReader(r, int64(limit)+1))
	if err != nil || n > int64(limit) {
		return dst, errInflate
	}
	return b.Bytes(), nil
}
