package portmap

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// httpPatience bounds one request to a router, from the dial to the last byte.
	httpPatience = 4 * time.Second

	maxHTTPHeader  = 16 << 10  // bytes
	maxDescription = 128 << 10 // bytes of XML
	maxSOAPAnswer  = 32 << 10  // bytes of XML
	maxXMLText     = 512       // bytes that are kept of an element
	maxXMLDepth    = 64
)

// httpClient speaks to the gateway only. It follows no redirects and uses no proxy.
func (r route) httpClient() *http.Client {
	return &http.Client{
		Timeout: httpPatience,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				to, err := netip.ParseAddrPort(addr)
				if err != nil || to.Addr() != r.gateway {
					return nil, fmt.Errorf("%w: %q", errNotTheGateway, addr)
				}
				d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(r.local, 0))}
				return d.DialContext(ctx, network, addr)
			},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHTTPHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do makes a request and gives the status and at most limit bytes of the answer.
func do(c *http.Client, req *http.Request, limit int64) (int, []byte, error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("%w: over %d bytes", errMalformed, limit)
	}
	return resp.StatusCode, body, err
}

// walkXML calls leaf with the name and the text of each element without children, and
// end with the name of every other one, as they end. Routers' XML is sloppy, and so is
// the decoder told to be. Documents in other encodings are read as they are: what is
// needed of them is ASCII.
func walkXML(doc []byte, leaf func(name, text string), end func(name string)) error {
	d := xml.NewDecoder(bytes.NewReader(doc))
	d.Strict = false
	d.CharsetReader = func(_ string, input io.Reader) (io.Reader, error) { return input, nil }
	var (
		depth  int
		isLeaf bool
		text   []byte
	)
	for {
		tok, err := d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if depth++; depth > maxXMLDepth {
				return fmt.Errorf("%w: XML %d deep", errMalformed, depth)
			}
			isLeaf, text = true, text[:0]
		case xml.CharData:
			text = append(text, tok[:min(len(tok), maxXMLText-len(text))]...)
		case xml.EndElement:
			depth--
			if isLeaf {
				leaf(tok.Name.Local, strings.TrimSpace(string(text)))
			} else {
				end(tok.Name.Local)
			}
			isLeaf, text = false, text[:0]
		}
	}
}

// soapError is a refusal by a device (UPnP Device Architecture 1.1, section 3.2.2).
type soapError int

// The errors that are told apart (WANIPConnection:2, table 2-14 and the like).
const (
	soapInvalidAction  soapError = 401
	soapNotImplemented soapError = 602
	soapNotAuthorized  soapError = 606
	soapNoSuchEntry    soapError = 714
	soapConflict       soapError = 718
	soapSamePort       soapError = 724
	soapPermanentOnly  soapError = 725
	soapNoPorts        soapError = 728
	soapOtherConflict  soapError = 729
)

// Error gives the error in words.
func (e soapError) Error() string {
	switch e {
	case soapInvalidAction, soapNotImplemented:
		return "UPnP: action not implemented"
	case soapNotAuthorized:
		return "UPnP: not authorized"
	case soapNoSuchEntry:
		return "UPnP: no such mapping"
	case soapConflict, soapOtherConflict:
		return "UPnP: the port is taken"
	case soapSamePort:
		return "UPnP: both ports must be the same"
	case soapPermanentOnly:
		return "UPnP: only permanent mappings"
	case soapNoPorts:
		return "UPnP: no ports left"
	}
	return fmt.Sprintf("UPnP: error %d", int(e))
}

// arg is an argument of an action.
type arg struct{ name, value string }

// call invokes an action of a service and gives the values that it returns, by their
// names.
func call(ctx context.Context, c *http.Client, control *url.URL, service, action string, args ...arg) (map[string]string, error) {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0"?>` + "\r\n" +
		`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>`)
	fmt.Fprintf(&b, `<u:%s xmlns:u="%s">`, action, service)
	for _, a := range args {
		fmt.Fprintf(&b, "<%s>", a.name)
		_ = xml.EscapeText(&b, []byte(a.value)) // a Buffer takes all
		fmt.Fprintf(&b, "</%s>", a.name)
	}
	fmt.Fprintf(&b, `</u:%s></s:Body></s:Envelope>`+"\r\n", action)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, control.String(), &b)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
	req.Header["SOAPAction"] = []string{`"` + service + "#" + action + `"`} // some are particular about the case
	status, body, err := do(c, req, maxSOAPAnswer)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	err = walkXML(body, func(name, text string) {
		if len(values) < 64 {
			values[name] = text
		}
	}, func(string) {})
	if code, convErr := strconv.Atoi(values["errorCode"]); convErr == nil && code != 0 {
		return nil, soapError(code)
	}
	switch {
	case status != http.StatusOK:
		return nil, fmt.Errorf("UPnP: HTTP status %d", status)
	case err != nil:
		return nil, err
	}
	return values, nil
}
