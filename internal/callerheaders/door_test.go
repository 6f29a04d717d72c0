package callerheaders

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/proxy"
)

const (
	doorToken = "s3cret-ingest-token" // of the kind that could be a key
	oldToken  = TokenPrefix + "old"
	ownKey    = "lsv2_pt_caller"
)

func reasonOf(err error) string {
	if refused, ok := errors.AsType[*TokenError](err); ok {
		return refused.Reason
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestDoorLetsInWhoHasTheTokenOrAKey(t *testing.T) {
	t.Parallel()
	asking, open := NewDoor(doorToken), NewDoor("")
	for name, tc := range map[string]struct {
		door   *Door
		header http.Header
		want   proxy.Caller
		reason string
	}{
		"nothing":                       {asking, nil, proxy.Caller{}, ReasonTokenMissing},
		"token as key":                  {asking, header("x-api-key", doorToken, "x-tenant-id", "w"), proxy.Caller{Workspace: "w"}, ""},
		"token as bearer":               {asking, header("authorization", "Bearer "+doorToken), proxy.Caller{}, ""},
		"token without a scheme":        {asking, header("authorization", doorToken), proxy.Caller{}, ""},
		"token in its own header":       {asking, header(TokenHeader, doorToken, "langsmith-project", "p"), proxy.Caller{Project: "p"}, ""},
		"token as key, and a bearer":    {asking, header("x-api-key", doorToken, "authorization", "Bearer own"), proxy.Caller{APIKey: "Bearer own"}, ""},
		"a key and the token as bearer": {asking, header("x-api-key", ownKey, "authorization", "Bearer "+doorToken), proxy.Caller{APIKey: ownKey}, ""},
		"a key":                         {asking, header("x-api-key", ownKey), proxy.Caller{APIKey: ownKey}, ""},
		"a key and a wrong token":       {asking, header("x-api-key", ownKey, TokenHeader, "wrong"), proxy.Caller{APIKey: ownKey}, ""},
		"wrong token":                   {asking, header(TokenHeader, "wrong"), proxy.Caller{}, ReasonTokenWrong},
		"part of the token":             {asking, header(TokenHeader, doorToken[:5]), proxy.Caller{}, ReasonTokenWrong},
		"old token as key":              {asking, header("x-api-key", oldToken), proxy.Caller{}, ReasonTokenWrong},
		"old token as bearer":           {asking, header("authorization", "bearer "+oldToken), proxy.Caller{}, ReasonTokenWrong},
		"no door":                       {nil, nil, proxy.Caller{}, ""},
		"no door, a token":              {nil, header("x-api-key", oldToken), proxy.Caller{}, ""},
		"no token set":                  {open, nil, proxy.Caller{}, ""},
		"no token set, one sent":        {open, header("authorization", "Bearer "+oldToken), proxy.Caller{}, ""},
		"trusting":                      {asking.Trusting(), nil, proxy.Caller{}, ""},
		"trusting, the token as key":    {asking.Trusting(), header("x-api-key", doorToken), proxy.Caller{}, ""},
		"trusting, an old one":          {asking.Trusting(), header(TokenHeader, oldToken), proxy.Caller{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.door.Read(tc.header.Get)
			if diff := cmp.Diff(tc.want, got); diff != "" || reasonOf(err) != tc.reason {
				t.Errorf("refused for %q, want %q; caller (-want +got):\n%s", reasonOf(err), tc.reason, diff)
			}
		})
	}
}

func TestDoorTakesTheTokenOutOfWhatIsPassedOn(t *testing.T) {
	t.Parallel()
	asking := NewDoor(doorToken)
	for name, tc := range map[string]struct {
		door         *Door
		header, want http.Header
		borrows      bool
		reason       string
	}{
		"nothing":           {asking, header(), header(), false, ""},
		"key":               {asking, header("x-api-key", ownKey), header("x-api-key", ownKey), false, ""},
		"token as key":      {asking, header("x-api-key", doorToken, "accept", "a"), header("accept", "a"), true, ""},
		"token everywhere":  {asking, header("x-api-key", doorToken, "x-service-key", doorToken, TokenHeader, doorToken, "authorization", "Bearer "+doorToken), header(), true, ""},
		"bare in its place": {asking, header("authorization", doorToken), header(), true, ""},
		"behind a key":      {asking, header("x-api-key", ownKey, "x-api-key", doorToken), header("x-api-key", ownKey), true, ""},
		"wrong, and a key":  {asking, header("x-api-key", ownKey, TokenHeader, "wrong"), header("x-api-key", ownKey), false, ""},
		"wrong":             {asking, header("x-api-key", oldToken), header(), false, ReasonTokenWrong},
		"trusting":          {asking.Trusting(), header("x-api-key", doorToken), header(), true, ""},
		"trusting, wrong":   {asking.Trusting(), header("x-api-key", oldToken), header(), true, ""},
		"no door":           {nil, header(TokenHeader, "any", "x-api-key", ownKey), header("x-api-key", ownKey), true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			borrows, err := tc.door.Strip(tc.header)
			if diff := cmp.Diff(tc.want, tc.header); diff != "" || borrows != tc.borrows || reasonOf(err) != tc.reason {
				t.Errorf("borrows %v, want %v; refused for %q, want %q; header (-want +got):\n%s", borrows, tc.borrows, reasonOf(err), tc.reason, diff)
			}
		})
	}
}

func TestDoorTakesAnotherToken(t *testing.T) {
	t.Parallel()
	door := NewDoor(doorToken)
	trusting := door.Trusting()
	door.SetToken("another")
	if _, err := door.Read(header(TokenHeader, doorToken).Get); reasonOf(err) != ReasonTokenWrong {
		t.Errorf("the token before: %v", err)
	}
	for name, d := range map[string]*Door{"asking": door, "trusting": trusting} {
		if caller, err := d.Read(header("x-api-key", "another").Get); err != nil || caller.APIKey != "" {
			t.Errorf("%s: the new token: caller %+v, %v", name, caller, err)
		}
	}
	door.SetToken("")
	if _, err := door.Read(header().Get); err != nil {
		t.Errorf("without a token: %v", err)
	}
}
