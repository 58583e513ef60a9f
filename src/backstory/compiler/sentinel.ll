; Whether many places in Python's objects hold what they held: read as they lie in memory, or by C's functions.
;
; A header: 0 the rows, 1 their number, 2 whether what the rows say is valid.
; A row is four words: what kind of place it is, where, and which object (or word) was found there:
;    0 the word at an address
;    1 the entry of a dict under a key
;    2 the item of a list at an index

declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyBool_FromLong(i64)
declare ptr @PyDict_GetItemWithError(ptr, ptr)
declare void @PyErr_Clear()
declare ptr @PyList_GetItem(ptr, i64)
declare i64 @PyList_Size(ptr)

; What is at the place of a row now; 0 where there is nothing.
define internal i64 @found(ptr %row) alwaysinline {
  %kind = load i64, ptr %row
  %where_at = getelementptr i64, ptr %row, i64 1
  %where = load ptr, ptr %where_at
  %key_at = getelementptr i64, ptr %row, i64 2
  %key = load i64, ptr %key_at
  switch i64 %kind, label %word [ i64 1, label %entry
                                  i64 2, label %item ]
word:
  %here = load i64, ptr %where
  ret i64 %here
entry:
  %name = inttoptr i64 %key to ptr
  %value = call ptr @PyDict_GetItemWithError(ptr %where, ptr %name)
  %value_word = ptrtoint ptr %value to i64
  %is_there = icmp ne ptr %value, null
  br i1 %is_there, label %there, label %absent
there:
  ret i64 %value_word
absent:
  call void @PyErr_Clear()
  ret i64 0
item:
  %size = call i64 @PyList_Size(ptr %where)
  %within = icmp ult i64 %key, %size
  br i1 %within, label %take, label %nothing
take:
  %one = call ptr @PyList_GetItem(ptr %where, i64 %key)
  %one_word = ptrtoint ptr %one to i64
  ret i64 %one_word
nothing:
  ret i64 0
}

; A function of Python without arguments, bound to a header's address: whether all is as it was.
define ptr @holds(ptr %self, ptr %nothing) {
entry:
  %header = call ptr @PyLong_AsVoidPtr(ptr %self)
  %valid_at = getelementptr i64, ptr %header, i64 2
  %valid = load i64, ptr %valid_at
  %any = icmp ne i64 %valid, 0
  %rows = load ptr, ptr %header
  %count_at = getelementptr i64, ptr %header, i64 1
  %count = load i64, ptr %count_at
  %end = getelementptr [4 x i64], ptr %rows, i64 %count
  br i1 %any, label %head, label %no
head:
  %row = phi ptr [ %rows, %entry ], [ %next, %body ]
  %more = icmp ult ptr %row, %end
  br i1 %more, label %body, label %yes
body:
  %is = call i64 @found(ptr %row)
  %was_at = getelementptr i64, ptr %row, i64 3
  %was = load i64, ptr %was_at
  %next = getelementptr [4 x i64], ptr %row, i64 1
  %same = icmp eq i64 %is, %was
  br i1 %same, label %head, label %no
yes:
  %true = call ptr @PyBool_FromLong(i64 1)
  ret ptr %true
no:
  %false = call ptr @PyBool_FromLong(i64 0)
  ret ptr %false
}

; The same, to note what is there now.
define ptr @note(ptr %self, ptr %nothing) {
entry:
  %header = call ptr @PyLong_AsVoidPtr(ptr %self)
  %rows = load ptr, ptr %header
  %count_at = getelementptr i64, ptr %header, i64 1
  %count = load i64, ptr %count_at
  %end = getelementptr [4 x i64], ptr %rows, i64 %count
  br label %head
head:
  %row = phi ptr [ %rows, %entry ], [ %next, %body ]
  %more = icmp ult ptr %row, %end
  br i1 %more, label %body, label %over
body:
  %is = call i64 @found(ptr %row)
  %was_at = getelementptr i64, ptr %row, i64 3
  store i64 %is, ptr %was_at
  %next = getelementptr [4 x i64], ptr %row, i64 1
  br label %head
over:
  %true = call ptr @PyBool_FromLong(i64 1)
  ret ptr %true
}
