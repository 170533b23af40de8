package portmap

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// serveUPnP answers SSDP on c and serves a device over HTTP.
func (r *fakeRouter) serveUPnP(c *net.UDPConn) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.location = "http://" + l.Addr().String() + "/desc.xml"
	r.http = http.NewServeMux()
	r.http.HandleFunc("GET /desc.xml", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprintf(w, description, r.service)
	})
	r.http.HandleFunc("POST /control", r.soap)
	srv := &http.Server{Handler: r.http}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	r.t.Cleanup(func() {
		srv.Close()
		<-done
	})
	r.serve(c, func(b []byte, from netip.AddrPort) [][]byte {
		if !strings.HasPrefix(string(b), "M-SEARCH * HTTP/1.1\r\n") {
			r.t.Errorf("not a search: %q", b)
			return nil
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.search != nil {
			return r.search(from)
		}
		return [][]byte{ssdpAnswer(r.location)}
	})
}

func ssdpAnswer(location string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"+
		"USN: uuid:1::urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nEXT:\r\nSERVER: fake\r\nLOCATION: %s\r\n\r\n", location)
}

const description = `<?xml version="1.0" encoding="ISO-8859-1"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<friendlyName>Fake &amp; Sons</friendlyName><modelName>One</modelName>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/other</controlURL></service></serviceList>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList><service><serviceType>%s</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/scpd.xml</SCPDURL><controlURL>/control</controlURL><eventSubURL>/event</eventSubURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>`

func (r *fakeRouter) soap(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
		return
	}
	args := map[string]string{}
	if err := walkXML(body, func(name, text string) { args[name] = text }, func(string) {}); err != nil {
		r.t.Error(err)
	}
	_, action, _ := strings.Cut(strings.Trim(req.Header.Get("SOAPAction"), `"`), "#")
	r.mu.Lock()
	defer r.mu.Unlock()
	answer, fault := r.actionLocked(action, args)
	if fixed, ok := r.actions[action]; ok {
		if n, err := strconv.Atoi(fixed); err == nil {
			answer, fault = "", n
		} else {
			answer, fault = fixed, 0
		}
	}
	if fault != 0 {
		w.WriteHeader(http.StatusInternalServerError)
		answer = fmt.Sprintf("<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError><errorCode>%d</errorCode><errorDescription>no</errorDescription></UPnPError></detail></s:Fault>", fault)
	}
	fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body></s:Envelope>`, answer)
}

// actionLocked does what an action says.
func (r *fakeRouter) actionLocked(action string, args map[string]string) (string, int) {
	key := args["NewProtocol"] + " " + args["NewExternalPort"]
	port := func(name string) uint16 {
		n, err := strconv.ParseUint(args[name], 10, 16)
		if err != nil {
			r.t.Errorf("%s: %s %q", action, name, args[name])
		}
		return uint16(n)
	}
	value := func(name, v string) string {
		return fmt.Sprintf("<u:%sResponse><%s>%s</%s></u:%sResponse>", action, name, v, name, action)
	}
	switch action {
	case "GetExternalIPAddress":
		return value("NewExternalIPAddress", r.external.String()), 0
	case "AddPortMapping", "AddAnyPortMapping":
		r.noteLocked("%s %s for %s", action, key, args["NewLeaseDuration"])
		if action == "AddAnyPortMapping" && r.service != igdServices[0] {
			return "", 401
		}
		if args["NewInternalClient"] != "127.0.0.1" || args["NewEnabled"] != "1" {
			r.t.Errorf("%s: %v", action, args)
		}
		switch {
		case r.permanent && args["NewLeaseDuration"] != "0":
			return "", 725
		case r.conflicts > 0:
			r.conflicts--
			return "", 718
		}
		r.mappings[key] = port("NewInternalPort")
		return value("NewReservedPort", args["NewExternalPort"]), 0
	case "DeletePortMapping":
		r.noteLocked("%s %s", action, key)
		if r.mappings[key] == 0 {
			return "", 714
		}
		delete(r.mappings, key)
		return "", 0
	case "GetSpecificPortMappingEntry":
		if r.mappings[key] == 0 {
			return "", 714
		}
		return "<u:x><NewInternalPort>" + strconv.Itoa(int(r.mappings[key])) + "</NewInternalPort><NewInternalClient>127.0.0.1</NewInternalClient></u:x>", 0
	}
	return "", 401
}
