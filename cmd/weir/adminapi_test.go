package main

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	weirv1 "weir/proto/weir/v1"
)

var (
	shownCall    = regexp.MustCompile(`(?m)^(curl|grpcurl|printf) .*weir\.v1\.AdminService/(\w+).*$`)
	shownRequest = regexp.MustCompile(`-d '([^']*)'`)
)

// TestAdminAPIPageShowsWhatWorks has a running weir answer what docs/admin-api.md
// asks by curl, and checks that what it asks otherwise is a request.
func TestAdminAPIPageShowsWhatWorks(t *testing.T) {
	page, err := os.ReadFile("../../docs/admin-api.md")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := settingsOfFile(t, "upstream: http://127.0.0.1:9\n")
	w := serveWeir(t, s)
	methods := weirv1.File_weir_v1_admin_proto.Services().ByName("AdminService").Methods()
	asked := 0
	for _, call := range shownCall.FindAllStringSubmatch(string(page), -1) {
		method := methods.ByName(protoreflect.Name(call[2]))
		if method == nil {
			t.Errorf("there is no call %s", call[2])
			continue
		}
		request := shownRequest.FindStringSubmatch(call[0])
		if request == nil {
			continue
		}
		if err := protojson.Unmarshal([]byte(request[1]), dynamicpb.NewMessage(method.Input())); err != nil {
			t.Errorf("%s: %v", call[0], err)
		}
		if call[1] != "curl" {
			continue
		}
		asked++
		url := "http://" + string(w.at.Admin) + "/weir.v1.AdminService/" + call[2]
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(request[1]))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", call[0], resp.StatusCode)
		}
	}
	if asked < 4 {
		t.Errorf("only %d calls by curl were found", asked)
	}
}
