package early

import "testing"

func TestWanted(t *testing.T) {
	kubectl := []string{"sagong", "kubectl", "get", "pods"}
	for _, x := range []struct {
		name string
		args []string
		env  map[string]string
		want bool
	}{
		{"a server", []string{"sagong", "server"}, map[string]string{"LANG": "fr_FR.UTF-8"}, false},
		{"no language", kubectl, nil, false},
		{"English", kubectl, map[string]string{"LANG": "en_US.UTF-8"}, false},
		{"C", kubectl, map[string]string{"LANG": "C.UTF-8"}, false},
		{"French", kubectl, map[string]string{"LANG": "fr_FR.UTF-8"}, true},
		{"the first of three counts", kubectl, map[string]string{"LC_ALL": "C", "LANG": "fr_FR.UTF-8"}, false},
	} {
		if got := wanted(x.args, func(k string) string { return x.env[k] }); got != x.want {
			t.Errorf("%s: %v, want %v", x.name, got, x.want)
		}
	}
}
