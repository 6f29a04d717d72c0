package main

import (
	"maps"
	"strings"
	"testing"
)

func TestReadyBannerGolden(t *testing.T) {
	const key = "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789"
	usual := listening{GRPC: "127.0.0.1:4317", HTTP: "127.0.0.1:4318", Admin: "127.0.0.1:4319"}
	tests := []struct {
		name  string
		env   map[string]string
		at    listening
		color bool
	}{
		{name: "with-key", env: map[string]string{"LANGSMITH_API_KEY": key, "LANGSMITH_PROJECT": "chat"}, at: usual},
		{name: "with-key-color", env: map[string]string{"LANGSMITH_API_KEY": key}, at: usual, color: true},
		{name: "without-key", at: usual},
		{name: "unix-sockets", env: map[string]string{"LANGSMITH_API_KEY": key}, at: listening{
			GRPC: "unix:/run/weir/grpc.sock", HTTP: "unix:/run/weir/http.sock", Admin: "unix:/run/weir/admin.sock",
		}},
		{name: "every-address", env: map[string]string{"LANGSMITH_API_KEY": key, "LANGSMITH_WORKSPACE_ID": "5f8c"}, at: listening{
			GRPC: "[::]:4317", HTTP: "0.0.0.0:14318", Admin: "127.0.0.1:4319", Metrics: "0.0.0.0:9090",
		}},
		{name: "http-only", env: map[string]string{"LANGSMITH_API_KEY": key}, at: listening{HTTP: "[::1]:4318", Admin: "127.0.0.1:4319"}},
	}
	version = "v0.1.0"
	t.Cleanup(func() { version = "" })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := inputIn(t)
			tt.env = withEnv(tt.env, "HOME", "/home/ada")
			in.getenv = envOf(tt.env)
			s, err := loadSettings(in)
			if err != nil {
				t.Fatal(err)
			}
			banner := readyBanner(s, tt.at, tt.color)
			if strings.Contains(banner, key[6:20]) {
				t.Error("the banner shows the key")
			}
			golden(t, "testdata/ready/"+tt.name+".golden", banner)
		})
	}
}

func withEnv(env map[string]string, name, value string) map[string]string {
	all := map[string]string{name: value}
	maps.Copy(all, env)
	return all
}
