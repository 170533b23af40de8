package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// fetchTimeout bounds one fetch from the first packet to the last byte.
	fetchTimeout = 10 * time.Second
	// maxFetch bounds what is fetched, in bytes.
	maxFetch = 256 << 10
	// maxRedirects is how many redirects are followed.
	maxRedirects = 3
	// maxCacheAge bounds for how long whoever can keep this machine from
	// reaching a site can also keep a key alive that was removed there.
	maxCacheAge = 7 * 24 * time.Hour
)

var errRedirect = errors.New("redirect refused")

// StaleError is the warning that a list comes from the cache because its site
// cannot be reached.
type StaleError struct {
	Source Source
	Age    time.Duration // since it was fetched
	Err    error         // why it cannot be fetched now
}

// Error tells how old the list in use is and why.
func (e *StaleError) Error() string {
	return fmt.Sprintf("%s: using the list fetched %s ago: %v", printablePath(e.Source.String()), roughly(e.Age), e.Err)
}

// Unwrap returns why the list cannot be fetched now.
func (e *StaleError) Unwrap() error { return e.Err }

// roughly returns d in the largest unit that says something.
func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d seconds", max(int(d.Seconds()), 0))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// statusError is an answer other than 200.
type statusError int

func (e statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the server answers %d %s", int(e), http.StatusText(int(e))))
}

// final tells whether err is an answer that the site gave about the list, as
// opposed to no answer. A list that was taken away must not live on in caches.
func final(err error) bool {
	var status statusError
	if errors.As(err, &status) {
		return status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
	}
	return errors.Is(err, errRedirect) || errors.Is(err, errTooLong)
}

var errTooLong = fmt.Errorf("longer than %d KiB", maxFetch>>10)

// fetcher fetches lists and keeps copies. All fields are set once.
type fetcher struct {
	transport http.RoundTripper // nil for one of its own
	gitHub    string            // base addresses
	gitLab    string
	cacheDir  string // "" for none
}

// address returns where the list of s is fetched.
func (f *fetcher) address(s Source) string {
	switch s.kind {
	case SourceGitHub:
		return strings.TrimSuffix(f.gitHub, "/") + "/" + s.arg + ".keys"
	case SourceGitLab:
		return strings.TrimSuffix(f.gitLab, "/") + "/" + s.arg + ".keys"
	}
	return s.arg
}

// fetch returns the text of the list. If it had to come from the cache, warn
// says why.
func (f *fetcher) fetch(ctx context.Context, s Source) (body []byte, warn, err error) {
	address := f.address(s)
	if err := checkURL(address); err != nil {
		return nil, nil, err
	}
	body, err = f.get(ctx, address)
	if err == nil {
		if err := f.store(address, body); err != nil {
			return body, fmt.Errorf("cannot keep a copy of %s: %w", printablePath(s.String()), err), nil
		}
		return body, nil, nil
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	var status statusError
	if errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusGone) && s.kind != SourceURL {
		return nil, nil, fmt.Errorf("there is no such account (%w)", err)
	}
	if final(err) {
		return nil, nil, err
	}
	body, fetched, cacheErr := f.load(address)
	if cacheErr != nil {
		return nil, nil, err
	}
	age := time.Since(fetched)
	if age > maxCacheAge {
		return nil, nil, fmt.Errorf("%w (the list fetched %s ago is too old to be used)", err, roughly(age))
	}
	return body, &StaleError{Source: s, Age: age, Err: err}, nil
}

// get fetches address.
func (f *fetcher) get(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	transport := f.transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableKeepAlives = true // one request, and no goroutine left behind
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		transport = t
	}
	client := http.Client{
		Transport: transport,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("%w: more than %d of them", errRedirect, maxRedirects)
			}
			if err := checkURL(req.URL.String()); err != nil {
				return fmt.Errorf("%w: %w", errRedirect, err)
			}
			return nil
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/plain, */*;q=0.1")
	req.Header.Set("User-Agent", "pairterm")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fetchError(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxFetch+1))
	if err != nil {
		return nil, fetchError(ctx, err)
	}
	if len(body) > maxFetch {
		return nil, errTooLong
	}
	return body, nil
}

// fetchError replaces an expired context by words, and drops the address, which the
// message around it tells.
func fetchError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %d seconds", int(fetchTimeout.Seconds()))
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}

// A copy in the cache starts with these lines, the address and the time after
// them; to a parser of lists they are comments.
const (
	cacheAddress = "# fetched by pairterm from "
	cacheTime    = "# at "
)

func (f *fetcher) cachePath(address string) string {
	sum := sha256.Sum256([]byte(address))
	return filepath.Join(f.cacheDir, hex.EncodeToString(sum[:16])+".keys")
}

// store replaces the copy of what address holds, atomically.
func (f *fetcher) store(address string, body []byte) (err error) {
	if f.cacheDir == "" {
		return nil
	}
	if err := os.MkdirAll(f.cacheDir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(f.cacheDir, ".fetched-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	head := cacheAddress + address + "\n" + cacheTime + time.Now().UTC().Format(time.RFC3339) + "\n"
	if _, err := tmp.WriteString(head); err != nil {
		return err
	}
	if _, err := tmp.Write(body); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), f.cachePath(address))
}

// load returns the copy of what address held when it was last fetched.
func (f *fetcher) load(address string) (body []byte, fetched time.Time, err error) {
	if f.cacheDir == "" {
		return nil, time.Time{}, os.ErrNotExist
	}
	data, err := os.ReadFile(f.cachePath(address))
	if err != nil {
		return nil, time.Time{}, err
	}
	first, data, _ := bytes.Cut(data, []byte("\n"))
	second, data, _ := bytes.Cut(data, []byte("\n"))
	stamp, ok := strings.CutPrefix(string(second), cacheTime)
	if string(first) != cacheAddress+address || !ok {
		return nil, time.Time{}, errors.New("damaged copy")
	}
	fetched, err = time.Parse(time.RFC3339, stamp)
	if err != nil {
		return nil, time.Time{}, err
	}
	return data, fetched, nil
}
