package apiserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// merge is the media type of merge patches.
var merge = []string{"Content-Type", "application/merge-patch+json"}

// TestStorageLifecycles takes an object of each kind of storage through its
// life: made, read, patched, found by label, deleted, made anew, updated, and
// deleted as part of a collection.
//
// conformance: [sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver [Conformance]
// conformance: [sig-storage] CSIInlineVolumes should support CSIVolumeSource in Pod API [Conformance]
// conformance: [sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode [Conformance]
// conformance: [sig-storage] CSIStorageCapacity should support CSIStorageCapacities API operations [Conformance]
// conformance: [sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC [Conformance]
// conformance: [sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass [Conformance]
// conformance: [sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment [Conformance]
// conformance: [sig-storage] VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a VolumeAttributesClass [Conformance]
func TestStorageLifecycles(t *testing.T) {
	for kind, x := range map[string]struct{ group, path, rest string }{
		"CSIDriver":             {"storage.k8s.io/v1", "csidrivers", `"spec":{"attachRequired":false}`},
		"CSINode":               {"storage.k8s.io/v1", "csinodes", `"spec":{"drivers":[{"name":"d.example","nodeID":"n"}]}`},
		"CSIStorageCapacity":    {"storage.k8s.io/v1", "namespaces/default/csistoragecapacities", `"storageClassName":"c","capacity":"1Gi"`},
		"StorageClass":          {"storage.k8s.io/v1", "storageclasses", `"provisioner":"d.example"`},
		"VolumeAttributesClass": {"storage.k8s.io/v1", "volumeattributesclasses", `"driverName":"d.example","parameters":{"a":"b"}`},
		"VolumeAttachment":      {"storage.k8s.io/v1", "volumeattachments", `"spec":{"attacher":"d.example","nodeName":"n","source":{"persistentVolumeName":"v"}}`},
		"PersistentVolume":      {"v1", "persistentvolumes", `"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"csi":{"driver":"d.example","volumeHandle":"h"}}`},
		"PersistentVolumeClaim": {"v1", "namespaces/default/persistentvolumeclaims", `"spec":{"resources":{"requests":{"storage":"1Gi"}},"accessModes":["ReadWriteOnce"]}`},
		"Pod":                   {"v1", "namespaces/default/pods", `"spec":{"containers":[{"name":"c","image":"i"}],"volumes":[{"name":"v","csi":{"driver":"d.example","readOnly":true}}]}`},
	} {
		t.Run(kind, func(t *testing.T) {
			c := start(t)
			base := "/apis/" + x.group + "/" + x.path
			if x.group == "v1" {
				base = "/api/v1/" + x.path
			}
			must := func(want int, method, path, body string, headers ...string) map[string]any {
				t.Helper()
				code, got := c.do(method, path, body, headers...)
				if code != want {
					t.Fatalf("%s %s: %d, want %d: %s", method, path, code, want, got)
				}
				var o map[string]any
				if err := json.Unmarshal([]byte(got), &o); err != nil {
					t.Fatal(err)
				}
				return o
			}
			object := func(name string) string {
				return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":%q,"labels":{"test":"yes"}},%s}`, x.group, kind, name, x.rest)
			}
			found := func(selector string, want int) {
				t.Helper()
				list := must(http.StatusOK, http.MethodGet, base+"?labelSelector="+selector, "")
				if items, _ := list["items"].([]any); len(items) != want {
					t.Errorf("%s finds %d, want %d", selector, len(items), want)
				}
			}
			label := func(o map[string]any, key string) string {
				labels, _ := o["metadata"].(map[string]any)["labels"].(map[string]any)
				s, _ := labels[key].(string)
				return s
			}
			first := must(http.StatusCreated, http.MethodPost, base, object("one"))
			uid := first["metadata"].(map[string]any)["uid"]
			if got := must(http.StatusOK, http.MethodGet, base+"/one", ""); got["metadata"].(map[string]any)["uid"] != uid {
				t.Error("another was read")
			}
			if got := must(http.StatusOK, http.MethodPatch, base+"/one", `{"metadata":{"labels":{"one":"patched"}}}`, merge...); label(got, "one") != "patched" {
				t.Errorf("patched: %v", got)
			}
			found("one%3Dpatched", 1)
			zero := ""
			if kind == "Pod" {
				zero = "?gracePeriodSeconds=0"
			}
			must(http.StatusOK, http.MethodDelete, base+"/one"+zero, "")
			must(http.StatusNotFound, http.MethodGet, base+"/one", "")
			must(http.StatusCreated, http.MethodPost, base, object("two"))
			got := must(http.StatusOK, http.MethodGet, base+"/two", "")
			got["metadata"].(map[string]any)["labels"].(map[string]any)["two"] = "updated"
			body, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if got := must(http.StatusOK, http.MethodPut, base+"/two", string(body)); label(got, "two") != "updated" {
				t.Errorf("updated: %v", got)
			}
			must(http.StatusCreated, http.MethodPost, base, object("three"))
			found("test%3Dyes", 2)
			query := "?labelSelector=test%3Dyes"
			if zero != "" {
				query += "&" + strings.TrimPrefix(zero, "?")
			}
			must(http.StatusOK, http.MethodDelete, base+query, "")
			found("test%3Dyes", 0)
		})
	}
}

// TestStorageStatus patches and updates the status of those kinds that have one.
//
// conformance: [sig-storage] PersistentVolumes CSI Conformance should apply changes to a pv/pvc status [Conformance]
// conformance: [sig-storage] VolumeAttachment Conformance should apply changes to a volumeattachment status [Conformance]
func TestStorageStatus(t *testing.T) {
	for name, x := range map[string]struct{ path, body, before, patch, after string }{
		"persistent volume": {
			"/api/v1/persistentvolumes", `{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"x"},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"csi":{"driver":"d.example","volumeHandle":"h"}}}`,
			`"phase":"Pending"`, `{"status":{"message":"StatusPatched","reason":"E2E patchStatus"}}`, `"reason":"E2E patchStatus"`,
		},
		"claim": {
			"/api/v1/namespaces/default/persistentvolumeclaims", `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"x"},"spec":{"resources":{"requests":{"storage":"1Gi"}},"accessModes":["ReadWriteOnce"]}}`,
			`"phase":"Pending"`, `{"status":{"conditions":[{"type":"StatusPatched","status":"True"}]}}`, `"type":"StatusPatched"`,
		},
		"attachment": {
			"/apis/storage.k8s.io/v1/volumeattachments", `{"apiVersion":"storage.k8s.io/v1","kind":"VolumeAttachment","metadata":{"name":"x"},"spec":{"attacher":"d.example","nodeName":"n","source":{"persistentVolumeName":"v"}},"status":{"attached":true}}`,
			`"attached":false`, `{"status":{"attached":true}}`, `"attached":true`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			must := func(want int, method, path, body string, headers ...string) string {
				t.Helper()
				code, got := c.do(method, path, body, headers...)
				if code != want {
					t.Fatalf("%s %s: %d, want %d: %s", method, path, code, want, got)
				}
				return got
			}
			must(http.StatusCreated, http.MethodPost, x.path, x.body)
			if got := must(http.StatusOK, http.MethodGet, x.path+"/x/status", ""); !strings.Contains(got, x.before) {
				t.Errorf("at first: %s", got)
			}
			got := must(http.StatusOK, http.MethodPatch, x.path+"/x/status", x.patch, merge...)
			if !strings.Contains(got, x.after) {
				t.Errorf("patched: %s", got)
			}
			if got = must(http.StatusOK, http.MethodPut, x.path+"/x/status", strings.ReplaceAll(got, "Patched", "Updated")); !strings.Contains(got, strings.ReplaceAll(x.after, "Patched", "Updated")) {
				t.Errorf("updated: %s", got)
			}
			must(http.StatusOK, http.MethodDelete, x.path+"/x", "")
			must(http.StatusNotFound, http.MethodGet, x.path+"/x", "")
		})
	}
}
