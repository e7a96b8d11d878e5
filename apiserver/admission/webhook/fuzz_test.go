package webhook

import (
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"u","allowed":true,"patch":"W10=","patchType":"JSONPatch"}}`))
	f.Add([]byte(`{"response":{"allowed":false,"status":{"code":-1,"details":{"causes":[null]}}}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, version := range []string{"v1", "v1beta1"} {
			for _, mutating := range []bool{false, true} {
				a, err := readAnswer(version, "u", mutating, body)
				if (a == nil) == (err == nil) {
					t.Fatalf("answer %v and error %v", a, err)
				}
				if err == nil && !a.allowed {
					if s := denied("x", a.result).ErrStatus; s.Code < 400 || s.Message == "" || s.Status == "Success" {
						t.Fatalf("denied with %+v", s)
					}
				}
				if err == nil && !mutating && a.patch != nil {
					t.Fatal("a patch from a webhook that validates")
				}
			}
		}
	})
}

func TestLongPatch(t *testing.T) {
	one := `{"op":"test","path":"/a","value":1}`
	patch, err := jsonpatch.DecodePatch([]byte("[" + strings.Repeat(one+",", 10_000) + one + "]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := applyPatch([]byte(`{"a":1}`), patch); err == nil || err.Error() != "The allowed maximum operations in a JSON patch is 10000, got 10001" {
		t.Errorf("err = %v", err)
	}
	if _, err := applyPatch([]byte(`{"a":1}`), patch[1:]); err != nil {
		t.Error(err)
	}
}

func FuzzPatch(f *testing.F) {
	f.Add([]byte(`[{"op":"add","path":"/a/-","value":1},{"op":"copy","from":"/a","path":"/b"}]`))
	f.Add([]byte(`[{"op":"remove","path":""},{"op":"test","path":"/a/0"}]`))
	f.Add([]byte(`[null]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		patch, err := jsonpatch.DecodePatch(data)
		if err != nil {
			return
		}
		_, _ = applyPatch([]byte(`{"a":[1,{"b":"c"}],"m":{"k":null}}`), patch)
	})
}
