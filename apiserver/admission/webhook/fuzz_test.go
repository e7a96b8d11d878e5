package webhook

import (
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"sagong/apiserver/webhookclient"
)

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"u","allowed":true,"patch":"W10=","patchType":"JSONPatch"}}`))
	f.Add([]byte(`{"response":{"allowed":false,"status":{"code":-1,"details":{"causes":[null]}}}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, version := range []string{"v1", "v1beta1"} {
			for _, mutating := range []bool{false, true} {
				a, err := read(version, mutating, body)
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

func read(version string, mutating bool, body []byte) (*answer, error) {
	o, err := decodeReview(version, webhookclient.Answer{Code: 200, ContentType: "application/json", Body: body})
	if err != nil {
		return nil, err
	}
	return readAnswer("u", mutating, o)
}

// The texts are those of Kubernetes 1.37, to which the same answers were given.
func TestAnswersInUpstreamsWords(t *testing.T) {
	const head = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"`
	for _, tc := range []struct{ version, body, want string }{
		{"v1", head + `,"response":{"uid":"u","allowed":true}}`, ""},
		{"v1", head + `,"zz":1,"response":{"uid":"u","allowed":true,"Allowed":false}}`, ""},
		{"v1", "apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\nresponse: {uid: u, allowed: true}", ""},
		{"v1", `{"response":{"uid":"u","allowed":true}}`, "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="},
		{"v1", head + `}`, "webhook response was absent"},
		{"v1", head + `,"response":{"uid":"x","allowed":true}}`, `expected response.uid="u", got "x"`},
		{"v1", ``, "0-length response with status code: 200 and content type: application/json"},
		{"v1", head + `,"response":{"uid":`, "couldn't get version/kind; json parse error: unexpected end of JSON input"},
		{"v1", head + `,"response":{"uid":"u","allowed":"yes"}}`, "json: cannot unmarshal string into Go struct field AdmissionResponse.response.allowed of type bool"},
		{"v1", head + `,"response":{"uid":"u","allowed":true,"patch":"***"}}`, "illegal base64 data at input byte 0"},
		{"v1", `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","response":{"uid":"u","allowed":true}}`, "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion"},
		{"v1", `{"apiVersion":"v1","kind":"Status","status":"Failure"}`, "converting (v1.Status) to (v1.AdmissionReview): unknown conversion"},
		{"v1beta1", head + `,"response":{"allowed":true}}`, "converting (v1.AdmissionReview) to (v1beta1.AdmissionReview): unknown conversion"},
		{"v1beta1", `{"response":{"allowed":true}}`, ""},
	} {
		_, err := read(tc.version, true, []byte(tc.body))
		if got := ""; err != nil && err.Error() != tc.want || err == nil && tc.want != got {
			t.Errorf("%s: %v, want %q", tc.body, err, tc.want)
		}
	}
	if _, err := read("v1", true, []byte(strings.Replace(head, "AdmissionReview", "Other", 1)+"}")); err == nil || !strings.HasPrefix(err.Error(), `no kind "Other" is registered for version "admission.k8s.io/v1" in scheme`) {
		t.Errorf("another kind: %v", err)
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
