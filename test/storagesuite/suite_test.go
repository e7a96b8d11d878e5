package storagesuite

import (
	"context"
	"testing"

	"k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// Of the suite these do not apply, all for one reason: they inject failures into
// the transformation of values on every read and expect the errors of single
// reads. Here values are unsealed once, when the data directory is opened, and a
// value that cannot be unsealed is refused there (store/cipher_test.go); records
// in memory are in clear, so that no read can fail so.
//
//	RunTestTransformationFailure, RunTestWatchError,
//	RunWatchErrorIsBlockingFurtherEvents, RunTestGetListWithErrorAggregation,
//	RunTestGetListWithoutErrorAggregation, RunTestWatchWithUnsafeDelete,
//	RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError,
//	RunTestDeleteExpectedTransformOrDecodeError,
//	RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError
//
// RunTestGuaranteedUpdateChecksStoredData writes bytes that are not in canonical
// form; the store's only form is the message that the codec makes.
//
// RunBenchmark* measure; this project's own figures are those of make bench.

// noCalls: the suite counts the calls to etcd, of which there are none.
func noCalls(*testing.T, uint64, uint64) {}

func TestCreate(t *testing.T) {
	a := start(t)
	storagetesting.RunTestCreate(t.Context(), t, a, a.invariants)
}

func TestCreateWithTTL(t *testing.T) {
	t.Parallel()
	storagetesting.RunTestCreateWithTTL(t.Context(), t, start(t))
}

func TestGuaranteedUpdateWithTTL(t *testing.T) {
	t.Parallel()
	storagetesting.RunTestGuaranteedUpdateWithTTL(t.Context(), t, start(t))
}

func TestGuaranteedUpdate(t *testing.T) {
	a := start(t)
	storagetesting.RunTestGuaranteedUpdate(t.Context(), t, a, a.invariants)
}

func TestList(t *testing.T) {
	a := start(t)
	storagetesting.RunTestList(t.Context(), t, a, a.compact, false, nil)
}

func TestConsistentList(t *testing.T) {
	a := start(t)
	storagetesting.RunTestConsistentList(t.Context(), t, a, a.increase, false, true, false)
}

func TestGetListNonRecursive(t *testing.T) {
	a := start(t)
	storagetesting.RunTestGetListNonRecursive(t.Context(), t, a.increase, a)
}

func TestCompactRevision(t *testing.T) {
	a := start(t)
	storagetesting.RunTestCompactRevision(t.Context(), t, a, a.increase, a.compact)
}

func TestListInconsistentContinuation(t *testing.T) {
	a := start(t)
	storagetesting.RunTestListInconsistentContinuation(t.Context(), t, a, a.compact)
}

func TestListResourceVersionMatch(t *testing.T) {
	storagetesting.RunTestListResourceVersionMatch(t.Context(), t, start(t))
}

func TestStats(t *testing.T) {
	a := start(t)
	storagetesting.RunTestStats(t.Context(), t, a, codec, a.transformer, false)
}

func TestWatchFromZero(t *testing.T) {
	a := start(t)
	storagetesting.RunTestWatchFromZero(t.Context(), t, a, a.compact)
}

func TestClusterScopedWatch(t *testing.T) {
	storagetesting.RunTestClusterScopedWatch(t.Context(), t, startOf(t, false))
}

func TestProgressNotify(t *testing.T) {
	a := start(t)
	storagetesting.RunOptionalTestProgressNotify(t.Context(), t, a, a.increase)
}

func TestWatchDispatchBookmarkEvents(t *testing.T) {
	t.Parallel()
	storagetesting.RunTestWatchDispatchBookmarkEvents(t.Context(), t, start(t), true)
}

func TestWatchBookmarksWithCorrectResourceVersion(t *testing.T) {
	t.Parallel()
	storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion(t.Context(), t, start(t))
}

func TestDelayedWatchDelivery(t *testing.T) {
	t.Parallel()
	storagetesting.RunTestDelayedWatchDelivery(t.Context(), t, start(t))
}

// TestPlain are those that need nothing but a storage.Interface.
func TestPlain(t *testing.T) {
	for _, one := range []struct {
		name string
		run  func(context.Context, *testing.T, storage.Interface)
	}{
		{"CreateWithKeyExist", storagetesting.RunTestCreateWithKeyExist},
		{"Get", storagetesting.RunTestGet},
		{"UnconditionalDelete", storagetesting.RunTestUnconditionalDelete},
		{"ConditionalDelete", storagetesting.RunTestConditionalDelete},
		{"DeleteWithSuggestion", storagetesting.RunTestDeleteWithSuggestion},
		{"DeleteWithSuggestionAndConflict", storagetesting.RunTestDeleteWithSuggestionAndConflict},
		{"DeleteWithConflict", storagetesting.RunTestDeleteWithConflict},
		{"DeleteWithSuggestionOfDeletedObject", storagetesting.RunTestDeleteWithSuggestionOfDeletedObject},
		{"ValidateDeletionWithSuggestion", storagetesting.RunTestValidateDeletionWithSuggestion},
		{"ValidateDeletionWithOnlySuggestionValid", storagetesting.RunTestValidateDeletionWithOnlySuggestionValid},
		{"PreconditionalDeleteWithSuggestion", storagetesting.RunTestPreconditionalDeleteWithSuggestion},
		{"PreconditionalDeleteWithOnlySuggestionPass", storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass},
		{"GetListRecursivePrefix", storagetesting.RunTestGetListRecursivePrefix},
		{"ListPaging", storagetesting.RunTestListPaging},
		{"NamespaceScopedList", storagetesting.RunTestNamespaceScopedList},
		{"GuaranteedUpdateWithConflict", storagetesting.RunTestGuaranteedUpdateWithConflict},
		{"GuaranteedUpdateWithSuggestionAndConflict", storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict},
		{"KeySchema", storagetesting.RunTestKeySchema},
		{"Watch", storagetesting.RunTestWatch},
		{"DeleteTriggerWatch", storagetesting.RunTestDeleteTriggerWatch},
		{"WatchFromNonZero", storagetesting.RunTestWatchFromNonZero},
		{"WatchContextCancel", storagetesting.RunTestWatchContextCancel},
		{"WatcherTimeout", storagetesting.RunTestWatcherTimeout},
		{"WatchDeleteEventObjectHaveLatestRV", storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV},
		{"WatchInitializationSignal", storagetesting.RunTestWatchInitializationSignal},
		{"NamespaceScopedWatch", storagetesting.RunTestNamespaceScopedWatch},
		{"SendInitialEventsBackwardCompatibility", storagetesting.RunSendInitialEventsBackwardCompatibility},
		{"WatchSemantics", storagetesting.RunWatchSemantics},
		{"WatchSemanticInitialEventsExtended", storagetesting.RunWatchSemanticInitialEventsExtended},
		{"WatchListMatchSingle", storagetesting.RunWatchListMatchSingle},
	} {
		t.Run(one.name, func(t *testing.T) { one.run(t.Context(), t, start(t)) })
	}
}

// TestPaged lists in pages.
func TestPaged(t *testing.T) {
	for _, one := range []struct {
		name string
		run  func(context.Context, *testing.T, storage.Interface, storagetesting.CallsValidation)
	}{
		{"ListContinuation", storagetesting.RunTestListContinuation},
		{"ListPaginationRareObject", storagetesting.RunTestListPaginationRareObject},
		{"ListContinuationWithFilter", storagetesting.RunTestListContinuationWithFilter},
	} {
		t.Run(one.name, func(t *testing.T) { one.run(t.Context(), t, start(t), noCalls) })
	}
}
