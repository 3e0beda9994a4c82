//! What a driver says of its memory, which `wgpu` does not pass on: the crate's one module of unsafe code.

#![allow(unsafe_code)]

use gogrid_units::Bytes;

/// A device's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DriverMemory {
    /// The greatest heap of the device.
    pub(crate) total: Bytes,
    /// What of it this process could take now, where the driver says (VK_EXT_memory_budget).
    pub(crate) free: Option<Bytes>,
}

/// The memory of a Vulkan device; `None` through other interfaces. Apple's systems have no Vulkan, and their
/// GPUs share the system's memory.
#[cfg(target_vendor = "apple")]
pub(crate) fn driver_memory(_adapter: &wgpu::Adapter) -> Option<DriverMemory> {
    None
}

/// The memory of a Vulkan device; `None` through other interfaces.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn driver_memory(adapter: &wgpu::Adapter) -> Option<DriverMemory> {
    // SAFETY: the handles are used to read properties while the adapter is borrowed, and nothing is destroyed
    // through them. There is no safe way: wgpu passes no memory properties on.
    let raw = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let (instance, device) = (
        raw.shared_instance().raw_instance(),
        raw.raw_physical_device(),
    );
    // SAFETY: the instance and its physical device live as long as the adapter, which is borrowed.
    let extensions = unsafe { instance.enumerate_device_extension_properties(device) };
    let has_budget = extensions.is_ok_and(|extensions| {
        let names = extensions.iter().map(|it| it.extension_name_as_c_str());
        names
            .into_iter()
            .any(|name| name == Ok(ash::ext::memory_budget::NAME))
    });
    let mut budget = ash::vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut properties = ash::vk::PhysicalDeviceMemoryProperties2::default();
    if has_budget {
        properties = properties.push_next(&mut budget);
    }
    // SAFETY: as above; the structure for the budget is chained only where the device has the extension, and
    // wgpu asks for an instance of Vulkan 1.1 or later, which has this call.
    unsafe { instance.get_physical_device_memory_properties2(device, &mut properties) };
    let properties = properties.memory_properties;
    // As many as the array has, or fewer.
    let heaps = properties
        .memory_heaps
        .iter()
        .take(properties.memory_heap_count as usize);
    let own = heaps
        .enumerate()
        .filter(|(_, heap)| heap.flags.contains(ash::vk::MemoryHeapFlags::DEVICE_LOCAL));
    let (index, heap) = own.max_by_key(|(_, heap)| heap.size)?;
    // Some drivers report a budget above the heap.
    let free = budget.heap_budget[index].min(heap.size);
    Some(DriverMemory {
        total: Bytes(heap.size),
        free: has_budget.then(|| Bytes(free.saturating_sub(budget.heap_usage[index]))),
    })
}
