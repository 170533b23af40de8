package certs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// errStopped is what becomes of requests to the CA when the server ends.
var errStopped = errors.New("the server ends")

// maxAnswer is how much of an answer of the CA's is looked at, in bytes.
const maxAnswer = 64 << 10

// caTransport talks to the CA. It fails requests once the server ends, because
// orders cannot be cancelled otherwise; and it logs why the CA turns a challenge
// down, which it alone knows and the manager keeps to itself.
type caTransport struct {
	a    *ACME
	base http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t *caTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.a.stopped.Load() {
		return nil, errStopped
	}
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	resp.Body = readCloser{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	t.explain(head)
	return resp, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// explain logs what an answer says of challenges that failed, if it is an
// authorization (RFC 8555, sections 7.1.4 and 8).
func (t *caTransport) explain(answer []byte) {
	var authorization struct {
		Status     string
		Identifier struct{ Value string }
		Challenges []struct {
			Type, Status string
			Error        struct{ Type, Detail string }
		}
	}
	if json.Unmarshal(answer, &authorization) != nil || authorization.Status != "invalid" {
		return
	}
	for _, c := range authorization.Challenges {
		if c.Status == "invalid" {
			t.a.log.Warn("the CA could not see that the domain is ours", "domain", authorization.Identifier.Value,
				"challenge", c.Type, "why", c.Error.Detail, "type", c.Error.Type)
		}
	}
}
