/* bcryptprimitives.dll for Wine, which has none: Rust's standard library takes its chance from there. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID to, ULONG bytes);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE to, SIZE_T bytes) {
  while (bytes > 0) {
    ULONG part = bytes > 65536 ? 65536 : (ULONG)bytes;
    if (!SystemFunction036(to, part)) return FALSE;
    to += part;
    bytes -= part;
  }
  return TRUE;
}
