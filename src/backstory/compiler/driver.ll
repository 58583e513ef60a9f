; The driver of a plan: what runs a table of kernels, alone or with workers beside it.
;
; A row of a table is three words: the address of a kernel, the address of its argument block, and how many
; rows from this one on may run side by side (1: this one alone).
;
; A call's header: 0 the rows, 1 their number, 2 the pool, 3 whether any rows run side by side.
;
; A pool, in words, what different threads write 64 bytes apart:
;    0 claim     which part of which job is next: epoch << 32 | parts << 16 | next part
;    8 done      how many parts of the job are finished
;   16 busy      1 while a thread has a job out; a second caller then does its own parts alone
;   24 rows      the job's rows
;   32 workers   how many threads take parts, 33 stop, 34 how often a worker looks before it parks,
;      35 what to call, holding the GIL, when workers are needed and there are none (a Python object, or 0)
;   64 + 8 i     worker i: whether it is parked, and 65 + 8 i the lock on which it parks
;
; A claim holds everything that decides whether there is a part to take, so one compare-and-exchange takes it;
; the epoch tells a job from the next.

declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyObject_CallNoArgs(ptr)
declare ptr @PyLong_FromVoidPtr(ptr)
declare i32 @PyType_IsSubtype(ptr, ptr)
declare void @PyErr_SetString(ptr, ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare i32 @PyThread_acquire_lock(ptr, i32)
declare void @PyThread_release_lock(ptr)
declare i32 @backstory.yield_processor()
@backstory.None = external global i8
@backstory.TypeError = external global i8
@backstory.ndarray = external global i8
@no_array = private constant [30 x i8] c"address_of takes NumPy arrays\00"

declare void @llvm.x86.sse2.pause()
declare void @llvm.aarch64.hint(i32)
define internal void @pause() alwaysinline {
  ; PAUSE
  ret void
}

; One row: its kernel, called with the address of its block.
define internal void @call_row(ptr %row) alwaysinline {
  %kernel = load ptr, ptr %row
  %block_at = getelementptr i64, ptr %row, i64 1
  %block = load i64, ptr %block_at
  call void %kernel(i64 %block)
  ret void
}

; Take parts of the job that is out until none is left.
define internal void @take_parts(ptr %pool) {
entry:
  %done_at = getelementptr i64, ptr %pool, i64 8
  %rows_at = getelementptr i64, ptr %pool, i64 24
  br label %look
look:
  %claim = load atomic i64, ptr %pool seq_cst, align 8
  %part = and i64 %claim, 65535
  %shifted = lshr i64 %claim, 16
  %parts = and i64 %shifted, 65535
  %left = icmp ult i64 %part, %parts
  br i1 %left, label %take, label %none
take:
  %rows = load atomic ptr, ptr %rows_at monotonic, align 8
  %next = add i64 %claim, 1
  %exchange = cmpxchg ptr %pool, i64 %claim, i64 %next seq_cst seq_cst
  %taken = extractvalue { i64, i1 } %exchange, 1
  br i1 %taken, label %work, label %look
work:
  %row = getelementptr [3 x i64], ptr %rows, i64 %part
  call void @call_row(ptr %row)
  %before = atomicrmw add ptr %done_at, i64 1 seq_cst
  br label %look
none:
  ret void
}

; Rows that may run side by side: by the workers and this thread, or by this thread alone.
define internal void @run_together(ptr %pool, ptr %rows, i64 %parts) noinline {
entry:
  %workers_at = getelementptr i64, ptr %pool, i64 32
  %workers = load atomic i64, ptr %workers_at monotonic, align 8
  %any = icmp ne i64 %workers, 0
  br i1 %any, label %try, label %alone
try:
  %busy_at = getelementptr i64, ptr %pool, i64 16
  %exchange = cmpxchg ptr %busy_at, i64 0, i64 1 seq_cst monotonic
  %mine = extractvalue { i64, i1 } %exchange, 1
  br i1 %mine, label %publish, label %alone
publish:
  %done_at = getelementptr i64, ptr %pool, i64 8
  %rows_at = getelementptr i64, ptr %pool, i64 24
  store atomic i64 0, ptr %done_at monotonic, align 8
  store atomic ptr %rows, ptr %rows_at monotonic, align 8
  %last = load atomic i64, ptr %pool monotonic, align 8
  %last_epoch = lshr i64 %last, 32
  %epoch = add i64 %last_epoch, 1
  %high = shl i64 %epoch, 32
  %middle = shl i64 %parts, 16
  %claim = or i64 %high, %middle
  store atomic i64 %claim, ptr %pool seq_cst, align 8
  %others = sub i64 %parts, 1
  %wanted = call i64 @llvm.umin.i64(i64 %workers, i64 %others)
  call void @wake(ptr %pool, i64 %wanted)
  call void @take_parts(ptr %pool)
  br label %wait
wait:
  %looks = phi i64 [ 0, %publish ], [ %more_looks, %again ]
  %done = load atomic i64, ptr %done_at seq_cst, align 8
  %all = icmp eq i64 %done, %parts
  br i1 %all, label %finish, label %not_yet
not_yet:
  %more_looks = add i64 %looks, 1
  %patient = icmp ult i64 %looks, 4096
  br i1 %patient, label %short, label %long
short:
  call void @pause()
  br label %again
long: ; the worker may be off its core
  %ignored = call i32 @backstory.yield_processor()
  br label %again
again:
  br label %wait
finish:
  store atomic i64 0, ptr %busy_at seq_cst, align 8
  ret void
alone:
  %row = phi ptr [ %rows, %entry ], [ %rows, %try ], [ %next_row, %alone ]
  %left = phi i64 [ %parts, %entry ], [ %parts, %try ], [ %fewer, %alone ]
  call void @call_row(ptr %row)
  %next_row = getelementptr [3 x i64], ptr %row, i64 1
  %fewer = sub i64 %left, 1
  %end = icmp eq i64 %fewer, 0
  br i1 %end, label %over, label %alone
over:
  ret void
}
declare i64 @llvm.umin.i64(i64, i64)

; Wake the first so many workers, those of them that are parked.
define internal void @wake(ptr %pool, i64 %count) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %step ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %body, label %over
body:
  %scaled = mul i64 %i, 8
  %place = add i64 %scaled, 64
  %parked_at = getelementptr i64, ptr %pool, i64 %place
  %parked = load atomic i64, ptr %parked_at seq_cst, align 8
  %maybe = icmp eq i64 %parked, 1
  br i1 %maybe, label %claim, label %step
claim:
  %was = atomicrmw xchg ptr %parked_at, i64 0 seq_cst
  %still = icmp eq i64 %was, 1
  br i1 %still, label %release, label %step
release:
  %lock_at = getelementptr i64, ptr %parked_at, i64 1
  %lock = load ptr, ptr %lock_at
  call void @PyThread_release_lock(ptr %lock)
  br label %step
step:
  %next = add i64 %i, 1
  br label %head
over:
  ret void
}

; The life of worker i, until stop: take parts; when there were none for a while, park.
define void @work(ptr %pool, i64 %i) {
entry:
  %stop_at = getelementptr i64, ptr %pool, i64 33
  %patience_at = getelementptr i64, ptr %pool, i64 34
  %patience = load i64, ptr %patience_at
  %scaled = mul i64 %i, 8
  %place = add i64 %scaled, 64
  %parked_at = getelementptr i64, ptr %pool, i64 %place
  %lock_at = getelementptr i64, ptr %parked_at, i64 1
  %lock = load ptr, ptr %lock_at
  br label %look
look:
  %looks = phi i64 [ 0, %entry ], [ 0, %busy ], [ 0, %woken ], [ %more_looks, %idle ]
  %stop = load atomic i64, ptr %stop_at seq_cst, align 8
  %go_on = icmp eq i64 %stop, 0
  br i1 %go_on, label %search, label %over
search:
  %found = call i1 @is_work(ptr %pool)
  br i1 %found, label %busy, label %nothing
busy:
  call void @take_parts(ptr %pool)
  br label %look
nothing:
  %more_looks = add i64 %looks, 1
  %patient = icmp ult i64 %looks, %patience
  br i1 %patient, label %idle, label %park
idle:
  call void @pause()
  br label %look
park: ; say so first, then look once more: a job put out meanwhile is seen here, or its author sees this
  store atomic i64 1, ptr %parked_at seq_cst, align 8
  %late = call i1 @is_work(ptr %pool)
  %late_stop = load atomic i64, ptr %stop_at seq_cst, align 8
  %stopping = icmp ne i64 %late_stop, 0
  %needed = or i1 %late, %stopping
  br i1 %needed, label %back, label %sleep
back:
  %was = atomicrmw xchg ptr %parked_at, i64 0 seq_cst
  %unnoticed = icmp eq i64 %was, 1
  br i1 %unnoticed, label %woken, label %sleep
sleep: ; whoever took the mark away releases the lock
  %got = call i32 @PyThread_acquire_lock(ptr %lock, i32 1)
  br label %woken
woken:
  br label %look
over:
  ret void
}

define internal i1 @is_work(ptr %pool) alwaysinline {
  %claim = load atomic i64, ptr %pool seq_cst, align 8
  %part = and i64 %claim, 65535
  %shifted = lshr i64 %claim, 16
  %parts = and i64 %shifted, 65535
  %left = icmp ult i64 %part, %parts
  ret i1 %left
}

; Have all workers return.
define void @stop(ptr %pool) {
  %stop_at = getelementptr i64, ptr %pool, i64 33
  store atomic i64 1, ptr %stop_at seq_cst, align 8
  %workers_at = getelementptr i64, ptr %pool, i64 32
  %workers = load atomic i64, ptr %workers_at monotonic, align 8
  call void @wake(ptr %pool, i64 %workers)
  ret void
}

; All rows of a table, in order.
define void @run(ptr %header) {
entry:
  %rows = load ptr, ptr %header
  %count_at = getelementptr i64, ptr %header, i64 1
  %count = load i64, ptr %count_at
  %pool_at = getelementptr i64, ptr %header, i64 2
  %pool = load ptr, ptr %pool_at
  %end = getelementptr [3 x i64], ptr %rows, i64 %count
  br label %head
head:
  %row = phi ptr [ %rows, %entry ], [ %next, %one ], [ %beyond, %several ]
  %more = icmp ult ptr %row, %end
  br i1 %more, label %body, label %over
body:
  %together_at = getelementptr i64, ptr %row, i64 2
  %together = load i64, ptr %together_at
  %single = icmp eq i64 %together, 1
  br i1 %single, label %one, label %several
one:
  call void @call_row(ptr %row)
  %next = getelementptr [3 x i64], ptr %row, i64 1
  br label %head
several:
  call void @run_together(ptr %pool, ptr %row, i64 %together)
  %beyond = getelementptr [3 x i64], ptr %row, i64 %together
  br label %head
over:
  ret void
}

; Behind all kernels of a program that somebody follows: count the step, and append the record of a log to its
; rows. The block: how many words a record has, how many rows there is memory for, and where these are: the clock
; (0 steps so far, 1 whether its owner is to look after something), the number of rows, the record, the rows.
define void @note(i64 %block) {
entry:
  %words_at = inttoptr i64 %block to ptr
  %words = load i64, ptr %words_at
  %most_at = getelementptr i64, ptr %words_at, i64 1
  %most = load i64, ptr %most_at
  %clock_at = getelementptr i64, ptr %words_at, i64 2
  %clock = load ptr, ptr %clock_at
  %place_at = getelementptr i64, ptr %words_at, i64 3
  %place = load ptr, ptr %place_at
  %record_at = getelementptr i64, ptr %words_at, i64 4
  %record = load ptr, ptr %record_at
  %rows_at = getelementptr i64, ptr %words_at, i64 5
  %rows = load ptr, ptr %rows_at
  %before = load i64, ptr %clock
  %step = add i64 %before, 1
  store i64 %step, ptr %clock
  %row = load i64, ptr %place
  %after = add i64 %row, 1
  %fits = icmp ult i64 %row, %most
  br i1 %fits, label %append, label %ask
append:
  store i64 %step, ptr %record
  %start = mul i64 %row, %words
  %target = getelementptr i64, ptr %rows, i64 %start
  %bytes = mul i64 %words, 8
  call void @llvm.memcpy.p0.p0.i64(ptr align 8 %target, ptr align 8 %record, i64 %bytes, i1 false)
  store atomic i64 %after, ptr %place release, align 8 ; who sees the number sees the rows
  br label %ask
ask:
  %full = icmp uge i64 %after, %most
  br i1 %full, label %urge, label %over
urge:
  %urgent_at = getelementptr i64, ptr %clock, i64 1
  store i64 1, ptr %urgent_at
  br label %over
over:
  ret void
}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

; A table as a function of Python without arguments, bound to the header's address; it gives up the GIL.
define ptr @call(ptr %self, ptr %nothing) {
entry:
  %header = call ptr @PyLong_AsVoidPtr(ptr %self)
  %started = call i1 @ready(ptr %header)
  br i1 %started, label %go, label %failed
go:
  %state = call ptr @PyEval_SaveThread()
  call void @run(ptr %header)
  call void @PyEval_RestoreThread(ptr %state)
  call void @Py_IncRef(ptr @backstory.None)
  ret ptr @backstory.None
failed:
  ret ptr null
}

; Start the pool's workers where the table wants them and there are none yet; false with an exception set.
define internal i1 @ready(ptr %header) alwaysinline {
entry:
  %wanted_at = getelementptr i64, ptr %header, i64 3
  %wanted = load i64, ptr %wanted_at
  %want = icmp ne i64 %wanted, 0
  br i1 %want, label %look, label %yes
look:
  %pool_at = getelementptr i64, ptr %header, i64 2
  %pool = load ptr, ptr %pool_at
  %starter_at = getelementptr i64, ptr %pool, i64 35
  %starter = load ptr, ptr %starter_at
  %startable = icmp ne ptr %starter, null
  br i1 %startable, label %start, label %yes
start:
  %result = call ptr @PyObject_CallNoArgs(ptr %starter)
  %ok = icmp ne ptr %result, null
  br i1 %ok, label %started, label %no
started:
  call void @Py_DecRef(ptr %result)
  br label %yes
yes:
  ret i1 true
no:
  ret i1 false
}

; A function of Python: where the entries of an array begin. In an array's object, as NumPy's interface has it,
; their address follows the head that all objects have, the last word of which is the type.
define ptr @address_of(ptr %self, ptr %array) {
entry:
  %type_at = getelementptr i8, ptr %array, i64 TYPE_AT
  %type = load ptr, ptr %type_at
  %exact = icmp eq ptr %type, @backstory.ndarray
  br i1 %exact, label %yes, label %other
other:
  %derived = call i32 @PyType_IsSubtype(ptr %type, ptr @backstory.ndarray)
  %is_array = icmp ne i32 %derived, 0
  br i1 %is_array, label %yes, label %no
yes:
  %data_at = getelementptr i8, ptr %array, i64 DATA_AT
  %data = load ptr, ptr %data_at
  %result = call ptr @PyLong_FromVoidPtr(ptr %data)
  ret ptr %result
no:
  call void @PyErr_SetString(ptr @backstory.TypeError, ptr @no_array)
  ret ptr null
}
