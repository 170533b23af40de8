//go:build unix

package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// httpsCommand runs web servers that the program trusts:
//
//	https start DIR VAR    serves DIR and sets VAR to its address
//	https stop             ends the last one
func httpsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 1 && args[0] == "stop" {
		ts.Value(terminalsKey{}).(*terminals).web.Close()
		return
	}
	if neg || len(args) != 3 || args[0] != "start" {
		ts.Fatalf("usage: https start DIR VAR, or https stop")
	}
	web := httptest.NewTLSServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(web.Close)
	ts.Value(terminalsKey{}).(*terminals).web = web
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	path := filepath.Join(ts.Getenv("WORK"), "ca.pem")
	ts.Check(os.WriteFile(path, cert, 0o600))
	ts.Setenv("SSL_CERT_FILE", path)
	ts.Setenv(args[2], web.URL)
}
