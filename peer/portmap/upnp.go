package portmap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pairterm/pairterm/keys"
)

// upnpServer is the service of an Internet gateway device that forwards ports.
type upnpServer struct {
	route   route
	http    *http.Client
	control *url.URL
	service string // its type
	device  string // its name, for people
}

// igdServices are the services that can forward ports, the preferred one first.
var igdServices = []string{
	"urn:schemas-upnp-org:service:WANIPConnection:2",
	"urn:schemas-upnp-org:service:WANIPConnection:1",
	"urn:schemas-upnp-org:service:WANPPPConnection:1",
}

const (
	// maxServices bounds how many services of a device are tried.
	maxServices = 8
	// maxPortTries bounds how many external ports are asked for.
	maxPortTries = 4
	// mappingName is how a mapping is called in the router's list.
	mappingName = "pairterm"
	// permanentLife is what a mapping without an end counts as.
	permanentLife = lifetime
)

var (
	errNoService = errors.New("the router's UPnP forwards no ports")
	errOffline   = errors.New("the router's UPnP is not connected to the Internet")
)

// openUPnP looks for an Internet gateway device on the gateway.
func openUPnP(ctx context.Context, r route, port uint16) (*upnpServer, error) {
	if !r.gateway.Is4() {
		return nil, errors.ErrUnsupported
	}
	var (
		s    *upnpServer
		last error
	)
	client := r.httpClient()
	err := r.searchIGD(ctx, port, func(location *url.URL) bool {
		s, last = describeIGD(ctx, r, client, location)
		return s != nil
	})
	switch {
	case s != nil:
		return s, nil
	case last != nil:
		return nil, last
	}
	return nil, err
}

// describeIGD fetches a description and finds a service in it that is connected.
func describeIGD(ctx context.Context, r route, client *http.Client, location *url.URL) (*upnpServer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, err
	}
	status, doc, err := do(client, req, maxDescription)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("UPnP: HTTP status %d for the description", status)
	}
	services, name, err := parseIGD(doc)
	if err != nil && len(services) == 0 {
		return nil, err
	}
	err = errNoService
	for _, v := range services {
		control, perr := location.Parse(v.control)
		if perr == nil {
			perr = r.checkURL(control)
		}
		if perr != nil {
			err = perr
			continue
		}
		s := &upnpServer{route: r, http: client, control: control, service: v.service, device: name}
		// A router with several ways out has a service for each, of which one is in use.
		if _, cerr := s.address(ctx); cerr != nil {
			err = cerr
			continue
		}
		return s, nil
	}
	return nil, err
}

// igdService is a service that a description names.
type igdService struct{ service, control string }

// parseIGD finds the services that can forward ports, the preferred ones first, and a
// name of the device.
func parseIGD(doc []byte) (services []igdService, name string, err error) {
	var v igdService
	err = walkXML(doc, func(element, text string) {
		switch element {
		case "serviceType":
			v.service = text
		case "controlURL":
			v.control = text
		case "friendlyName", "modelName":
			if name == "" {
				name = keys.Printable(text)
			}
		}
	}, func(element string) {
		if element != "service" {
			return
		}
		if slices.Contains(igdServices, v.service) && v.control != "" && len(services) < maxServices {
			services = append(services, v)
		}
		v = igdService{}
	})
	slices.SortStableFunc(services, func(a, b igdService) int {
		return slices.Index(igdServices, a.service) - slices.Index(igdServices, b.service)
	})
	return services, name, err
}

func (s *upnpServer) protocol() Protocol { return UPnP }

func (s *upnpServer) detail() string {
	kind := s.service[strings.LastIndex(s.service[:len(s.service)-2], ":")+1:]
	if s.device == "" {
		return kind
	}
	return s.device + ", " + kind
}

func (s *upnpServer) call(ctx context.Context, action string, args ...arg) (map[string]string, error) {
	return call(ctx, s.http, s.control, s.service, action, args...)
}

// address asks for the external address.
func (s *upnpServer) address(ctx context.Context) (netip.Addr, error) {
	values, err := s.call(ctx, "GetExternalIPAddress")
	if err != nil {
		return netip.Addr{}, err
	}
	addr, err := netip.ParseAddr(values["NewExternalIPAddress"])
	if err != nil || addr.IsUnspecified() {
		return netip.Addr{}, errOffline
	}
	return addr.Unmap(), nil
}

// add makes a mapping, or renews it.
func (s *upnpServer) add(ctx context.Context, want request) (grant, error) {
	external := want.port
	if want.suggested.IsValid() {
		external = want.suggested.Port()
	}
	life := lifetime
	anyPort := s.service == igdServices[0]
	for try := 1; ; try++ {
		got, err := s.addPort(ctx, want, external, life, anyPort)
		if err == nil {
			return s.granted(ctx, got, life)
		}
		var code soapError
		if !errors.As(err, &code) || try == 2*maxPortTries {
			return grant{external: netip.AddrPortFrom(netip.Addr{}, external)}, err
		}
		switch code {
		case soapPermanentOnly:
			if life == 0 {
				return grant{}, err
			}
			life = 0
		case soapInvalidAction, soapNotImplemented:
			if !anyPort {
				return grant{}, err
			}
			anyPort = false
		case soapConflict, soapOtherConflict:
			external = randomPort()
		case soapSamePort:
			if external == want.port {
				return grant{}, err
			}
			external = want.port
		default:
			return grant{}, &refusedError{code, 0}
		}
	}
}

// addPort asks for a mapping once, and gives the external port.
func (s *upnpServer) addPort(ctx context.Context, want request, external uint16, life time.Duration, anyPort bool) (uint16, error) {
	action := "AddPortMapping"
	if anyPort {
		action = "AddAnyPortMapping"
	}
	values, err := s.call(ctx, action, append(s.entry(want, external),
		arg{"NewInternalPort", strconv.Itoa(int(want.port))},
		arg{"NewInternalClient", s.route.local.String()},
		arg{"NewEnabled", "1"},
		arg{"NewPortMappingDescription", mappingName},
		arg{"NewLeaseDuration", strconv.Itoa(int(seconds(life)))})...)
	if err != nil || !anyPort {
		return external, err
	}
	port, err := strconv.ParseUint(values["NewReservedPort"], 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%w: reserved port %.20q", errMalformed, values["NewReservedPort"])
	}
	return uint16(port), nil
}

// entry names a mapping.
func (s *upnpServer) entry(want request, external uint16) []arg {
	protocol := "UDP"
	if want.protocol() == ipTCP {
		protocol = "TCP"
	}
	return []arg{{"NewRemoteHost", ""}, {"NewExternalPort", strconv.Itoa(int(external))}, {"NewProtocol", protocol}}
}

// granted completes a grant with the external address.
func (s *upnpServer) granted(ctx context.Context, external uint16, life time.Duration) (grant, error) {
	g := grant{external: netip.AddrPortFrom(netip.Addr{}, external), lifetime: life}
	if life == 0 {
		g.forever, g.lifetime = true, permanentLife
	}
	addr, err := s.address(ctx)
	g.external = netip.AddrPortFrom(addr, external)
	return g, err
}

// remove deletes a mapping.
func (s *upnpServer) remove(ctx context.Context, want request, g grant) error {
	external := g.external.Port()
	if external == 0 {
		external = want.port
	}
	_, err := s.call(ctx, "DeletePortMapping", s.entry(want, external)...)
	return err
}

// check asks whether the router still has the mapping, and the address.
func (s *upnpServer) check(ctx context.Context, want request, g grant) (held bool, err error) {
	values, err := s.call(ctx, "GetSpecificPortMappingEntry", s.entry(want, g.external.Port())...)
	var code soapError
	switch {
	case errors.Is(err, soapNoSuchEntry):
		return false, nil
	case errors.As(err, &code): // it does not tell
	case err != nil:
		return true, err
	case values["NewInternalClient"] != s.route.local.String() || values["NewInternalPort"] != strconv.Itoa(int(want.port)):
		return false, nil
	}
	addr, err := s.address(ctx)
	return err != nil || addr == g.external.Addr(), err
}

// randomPort gives a port that is not reserved for anything.
func randomPort() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return 32768 + binary.BigEndian.Uint16(b[:])%28000
}
