package signal

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Pong is what a server tells about itself.
type Pong struct {
	Server string        // the URL, as normalized by [ParseURL]
	RTT    time.Duration // of a request over an established connection
	// Skew is by how much the server's clock is ahead of ours, to about a second.
	Skew time.Duration
}

// Ping asks a server whether it is well, and takes part in nothing. Errors are those of
// [Dial], as far as they apply.
func Ping(ctx context.Context, serverURL string, opts *Options) (Pong, error) {
	ctx, limit, opts := opts.start(ctx)
	defer limit.stop()
	u, err := parseURL(serverURL)
	if err != nil {
		return Pong{}, err
	}
	p := Pong{Server: u.String()}
	web := u.JoinPath("healthz")
	web.Scheme = "http"
	if u.Scheme == "wss" {
		web.Scheme = "https"
	}
	tr := &http.Transport{
		Proxy:                  proxy,
		DialContext:            opts.DialContext,
		TLSClientConfig:        opts.TLS,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 16 << 10,
	}
	defer tr.CloseIdleConnections()
	client := &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for range 2 { // the first one sets the connection up, the second one measures
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.String(), nil)
		if err != nil {
			return Pong{}, fmt.Errorf("%w: %w", ErrNotASignalServer, err)
		}
		req.Header.Set("User-Agent", "pairterm")
		begin := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return Pong{}, explain(cause(ctx, err), nil)
		}
		p.RTT = time.Since(begin)
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10))
		_ = resp.Body.Close()
		switch {
		case err != nil:
			return Pong{}, unreachable(cause(ctx, err))
		case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get(HeaderServer) != "":
			return Pong{}, ErrShuttingDown
		case resp.StatusCode != http.StatusOK || resp.Header.Get(HeaderServer) == "":
			return Pong{}, explain(nil, resp)
		}
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			// The server's second has begun some time before, half of it on average.
			p.Skew = date.Add(500 * time.Millisecond).Sub(begin.Add(p.RTT / 2)).Round(time.Millisecond)
		}
	}
	return p, nil
}
