/* threads.exe PID: the priority of each thread of a process, as the system tells another one; one a line. */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>
#include <tlhelp32.h>

int main(int count, char **words) {
  DWORD pid = count == 2 ? strtoul(words[1], NULL, 10) : 0;
  THREADENTRY32 entry = {.dwSize = sizeof entry};
  HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
  for (BOOL more = Thread32First(all, &entry); more; more = Thread32Next(all, &entry)) {
    if (entry.th32OwnerProcessID != pid) continue;
    HANDLE thread = OpenThread(THREAD_QUERY_INFORMATION, FALSE, entry.th32ThreadID);
    if (thread == NULL) continue;
    printf("%d\n", GetThreadPriority(thread));
    CloseHandle(thread);
  }
  return 0;
}
